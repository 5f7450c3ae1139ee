"""Stable Diffusion 1.5 in 4 steps without guidance (Salimans & Ho, 2022, arXiv:2202.00512): 40 -> 8 -> 4 DDIM steps.

64 pictures x 1 GPU x 4 accumulation = 256 pictures an update; 4 x 50,000 updates.
"""

_base_ = [
    "../_base_/models/sd_15.py",
    "../_base_/methods/progressive_4_steps.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16", losses=dict(task=None, feature=None))
