"""Stable Diffusion 1.5 for all guidance scales from 1 to 15 at once, then in 40, 8, 4, 2 and 1 steps (Meng et al., 2023).

arXiv:2210.03142. 64 pictures x 1 GPU x 8 accumulation = 512 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_15.py",
    "../_base_/methods/guidance_to_1_step.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
