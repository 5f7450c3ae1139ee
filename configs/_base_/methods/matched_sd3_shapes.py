"""The last stage of matched_shapes.py for the SD3 class, which wants a scale of 2, faster rates and 800 updates.

At 3 the whole, coming from two steps, draws the same positions for all seeds in the end; at 2 it keeps most of its teacher's
(docs/results/few_steps.md).
"""

_base_ = ["./matched_shapes.py"]

matched = dict(
    model=dict(method=dict(guidance_scale=2.0)),
    train_cfg=dict(max_iters=800, val_interval=400),
    optim_wrapper=dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(fake_score=dict(lr=1e-3))),
    param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=400, end=800, by_epoch=False)],
)
