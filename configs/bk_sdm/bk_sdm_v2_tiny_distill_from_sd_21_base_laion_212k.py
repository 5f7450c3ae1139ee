"""BK-SDM-v2-Tiny from SD 2.1-base, 512 x 512 (github.com/Nota-NetsPresso/BK-SDM, scripts/kd_train_v2-base-im512.sh).

32 pictures x 1 GPU x 4 accumulation = 128 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_21_base.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/schedules/bk_sdm_50k.py",
    "../_base_/bk_sdm_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="float16")
train_dataloader = dict(batch_size=32)
