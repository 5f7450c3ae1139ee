"""Segmind SD-Small from Realistic Vision 4.0 on LAION-art (github.com/segmind/distill-sd): 0.58 B of 0.86 B parameters.

32 pictures x 1 GPU = 32 pictures an update, 100K updates, fp16.
"""

_base_ = [
    "../_base_/models/sd_small.py",
    "../_base_/datasets/laion_art_512.py",
    "../_base_/schedules/distill_sd_100k.py",
    "../_base_/default_runtime.py",
]

model = dict(dtype="float16")
default_hooks = dict(samples=dict(prompts=["a portrait photo of an old fisherman", "a red fox in the snow"], interval=5000))
