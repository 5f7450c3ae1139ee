"""SSD-1B in 4 steps from SDXL: its layers (Gupta et al., 2024, arXiv:2401.02677), and then DMD2 with SDXL as fake score.

8 pictures x 8 GPUs x 2 accumulation = 128 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/ssd_1b.py",
    "../_base_/methods/dmd2_4_steps.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="bfloat16")
