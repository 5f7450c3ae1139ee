"""The embedded SDXL-layout teacher in two steps: what the runs of configs/dreambooth tune without losing the two.

Progressive distillation in two stages, 8 steps as in sdxl_shapes_progressive.py and then 2: 300 and 120 updates of 32.
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
        name="quartered_2",
        model=dict(teacher=dict(denoiser="previous"), method=dict(steps=2, substeps=4)),
        train_cfg=dict(max_iters=120, val_interval=120),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=120, by_epoch=False)],
    ),
]
default_hooks = dict(samples=dict(interval=300))
