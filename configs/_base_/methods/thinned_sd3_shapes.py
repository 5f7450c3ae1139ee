"""The cut in two steps of thinned_shapes.py for the SD3 class, which takes three times as long, and features at a tenth.

After 600 updates its pictures are as right and most positions are lost: where the object goes is learned last
(docs/results/few_steps.md).
"""

_base_ = ["./thinned_shapes.py"]

_base_.thinned[0].merge(
    dict(
        model=dict(losses=dict(feature=dict(weight=0.1))),
        train_cfg=dict(max_iters=1800),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=1800, by_epoch=False)],
    )
)
