"""Guidance distillation (Meng et al., 2023) of the embedded SDXL-layout teacher, and four steps of it by halving.

The student is told the scale, so it can still be chosen in sampling.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

scales = [1.0, 5.0]
model = dict(student=dict(guidance_embedding=64), method=dict(guidance_scale=scales))
stages = [
    dict(name="guidance", model=dict(method=dict(_delete_=True, type="GuidanceDistillation", guidance_scale=scales))),
    dict(name="halved_8", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=8))),
    dict(name="halved_4", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=4))),
]
default_hooks = dict(samples=dict(interval=300))
del scales
