"""Segmind SD-Tiny from Realistic Vision 4.0 on LAION-art (github.com/segmind/distill-sd): 0.32 B of 0.86 B parameters.

32 pictures x 1 GPU = 32 pictures an update, 125K updates, fp16.
"""

_base_ = [
    "../_base_/models/realistic_vision_4.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/datasets/laion_art_512.py",
    "../_base_/schedules/distill_sd_100k.py",
    "../_base_/distill_sd_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

# The rule pairs the student's last down stage with the teacher's first up stage, as Segmind's script does: that is what the
# next stage, the teacher's second up stage, is used to. BK-SDM's own pairs go.
model = dict(feature_pairs=dict(_delete_=True, level="blocks", rule="next"), dtype="float16")
train_cfg = dict(max_iters=125_000)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=125_000, by_epoch=False)]
