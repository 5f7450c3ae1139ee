"""BK-SDM-Tiny in 4 steps: its layers (Kim et al., 2023, arXiv:2305.15798), and then DMD2 with SD 1.4 as fake score.

64 pictures x 1 GPU x 2 accumulation = 128 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_14.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/methods/dmd2_4_steps.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="bfloat16")
