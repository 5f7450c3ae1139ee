"""Segmind SD-Small from Realistic Vision 4.0 on LAION-art (github.com/segmind/distill-sd): 0.58 B of 0.86 B parameters.

32 pictures x 1 GPU = 32 pictures an update, 100K updates, fp16.
"""

_base_ = [
    "../_base_/models/realistic_vision_4.py",
    "../_base_/cuts/bk_sdm_base.py",
    "../_base_/datasets/laion_art_512.py",
    "../_base_/schedules/distill_sd_100k.py",
    "../_base_/distill_sd_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="float16")
