"""BK-SDM-Small-2M from SD 1.4 on 2,256,472 LAION-Aesthetics 6.25+ pairs (Kim et al., 2023, arXiv:2305.15798).

64 pictures x 1 GPU x 4 accumulation = 256 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_14.py",
    "../_base_/cuts/bk_sdm_small.py",
    "../_base_/datasets/laion_aesthetics_2m_512.py",
    "../_base_/schedules/bk_sdm_50k.py",
    "../_base_/bk_sdm_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="float16")
