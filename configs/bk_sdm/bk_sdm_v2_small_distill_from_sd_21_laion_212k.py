"""BK-SDM-v2-Small from SD 2.1, 768 x 768, v-prediction (github.com/Nota-NetsPresso/BK-SDM, scripts/kd_train_v2-im768.sh).

32 pictures x 1 GPU x 4 accumulation = 128 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_21.py",
    "../_base_/cuts/bk_sdm_small.py",
    "../_base_/datasets/laion_aesthetics_768.py",
    "../_base_/schedules/bk_sdm_50k.py",
    "../_base_/bk_sdm_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="float16")
