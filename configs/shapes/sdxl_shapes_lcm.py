"""Latent consistency distillation (Luo et al., 2023) of the embedded SDXL-layout teacher, told the guidance scale.

The target is the average of the student with the paper's decay of 0.95; scales are drawn around the teacher's usual 3.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/lcm_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(guidance_embedding=64))
default_hooks = dict(
    ema=dict(type="TargetEMAHook", ema_type="ExponentialMovingAverage", momentum=0.05), samples=dict(interval=600)
)
