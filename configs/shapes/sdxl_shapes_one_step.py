"""One step, sharp: the embedded SDXL-layout teacher in 8 steps, then in 1, by distribution matching (DMD2).

The first stage is that of sdxl_shapes_progressive.py.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

stages = [
    _base_.stages[0],
    dict(
        name="matched_1",
        model=dict(
            method=dict(_delete_=True, type="DistributionMatching", steps=1, guidance_scale=3.0),
            losses=dict(task=dict(weight=0.5)),
        ),
        optim_wrapper=dict(optimizer=dict(lr=2e-4, betas=(0.0, 0.99)), paramwise_cfg=dict(fake_score=dict(lr=5e-4))),
        train_cfg=dict(max_iters=800, val_interval=100),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=800, by_epoch=False)],
    ),
]
default_hooks = dict(ema=dict(type="EMAHook", momentum=0.02), samples=dict(interval=300))
