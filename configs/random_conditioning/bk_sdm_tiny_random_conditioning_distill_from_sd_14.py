"""Random conditioning (Kim et al., CVPR 2025, arXiv:2504.02011): BK-SDM-Tiny from SD 1.4 without real pictures.

Noisy pictures of the teacher's own beside random captions with probability p(t); output and feature losses alone.
64 pictures x 1 GPU x 4 accumulation = 256 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_14.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/methods/random_conditioning.py",
    "../_base_/datasets/teacher_made_512.py",
    "../_base_/schedules/bk_sdm_50k.py",
    "../_base_/bk_sdm_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="float16", method=dict(conditioning=dict(captions="data/laion_aes/captions.txt")))
