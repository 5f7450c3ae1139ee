"""Latent consistency distillation of the embedded teacher of the SD3 class, its guidance scale of 3 folded in.

The target is the average of the student with the paper's decay of 0.95. The class has no embedding of the guidance scale.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/methods/lcm_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(method=dict(guidance_scale=3.0))
default_hooks = dict(
    ema=dict(type="TargetEMAHook", ema_type="ExponentialMovingAverage", momentum=0.05), samples=dict(interval=600)
)
