"""Hyper-SD's shrinking phases (Ren et al., 2024, arXiv:2404.13686) of the embedded SDXL-layout teacher: 8, 4, 2, then 1.

4 x 150 updates of 32 pictures, told the guidance scale: as many as `sdxl_shapes_lcm.py` takes. Without GAN and feedback.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/hyper_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(guidance_embedding=64))
default_hooks = dict(
    ema=dict(type="TargetEMAHook", ema_type="ExponentialMovingAverage", momentum=0.05), samples=dict(interval=150)
)
