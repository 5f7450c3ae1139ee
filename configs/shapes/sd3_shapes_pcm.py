"""Phased consistency (Wang et al., 2024, arXiv:2405.18407) of the embedded teacher of the SD3 class: 4 phases of its flow.

600 updates of 32 pictures, the guidance scale of 3 folded in, beside `sd3_shapes_lcm.py`; sampled by 4 Euler steps.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/methods/pcm_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(method=dict(guidance_scale=3.0))
default_hooks = dict(
    ema=dict(type="TargetEMAHook", ema_type="ExponentialMovingAverage", momentum=0.05), samples=dict(interval=600)
)
