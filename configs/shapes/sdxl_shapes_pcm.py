"""Phased consistency (Wang et al., 2024, arXiv:2405.18407) of the embedded SDXL-layout teacher: 4 phases, without the GAN.

600 updates of 32 pictures, told the guidance scale, beside `sdxl_shapes_lcm.py`; sampled by 4 steps of DDIM.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/pcm_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(guidance_embedding=64))
default_hooks = dict(
    ema=dict(type="TargetEMAHook", ema_type="ExponentialMovingAverage", momentum=0.05), samples=dict(interval=600)
)
