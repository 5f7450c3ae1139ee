"""Segmind SD-Tiny from Realistic Vision 4.0 on LAION-art (github.com/segmind/distill-sd): 0.32 B of 0.86 B parameters.

32 pictures x 1 GPU = 32 pictures an update, 125K updates, fp16.
"""

_base_ = [
    "../_base_/models/sd_tiny.py",
    "../_base_/datasets/laion_art_512.py",
    "../_base_/schedules/distill_sd_100k.py",
    "../_base_/default_runtime.py",
]

model = dict(dtype="float16")
max_iters = 125_000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=max_iters, by_epoch=False)]
default_hooks = dict(samples=dict(prompts=["a portrait photo of an old fisherman", "a red fox in the snow"], interval=5000))
