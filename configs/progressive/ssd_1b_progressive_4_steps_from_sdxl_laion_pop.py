"""SSD-1B in 4 steps without guidance, from SDXL in one run: its layers first, then 40 -> 8 -> 4 DDIM steps.

Stage 1 is the distillation of Gupta et al., 2024, arXiv:2401.02677 (task, output and feature losses), to a student that
predicts v; stage 2 has SDXL under guidance as its teacher and still compares features; the halvings of Salimans & Ho, 2022,
arXiv:2202.00512, go on from there. 8 pictures x 8 GPUs x 4 accumulation = 256 pictures an update; 4 x 50,000 updates.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/ssd_1b.py",
    "../_base_/methods/progressive_4_steps.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
