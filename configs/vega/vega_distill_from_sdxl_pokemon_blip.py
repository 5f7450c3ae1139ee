"""Segmind Vega from SDXL on Pokemon-BLIP captions: 0.75 B of 2.57 B parameters (Gupta et al., 2024, arXiv:2401.02677).

2 pictures x 1 GPU = 2 pictures an update, bf16, gradient checkpointing: the settings of SSD-1B on the same pictures.
"""

_base_ = [
    "../_base_/models/vega.py",
    "../_base_/datasets/pokemon_blip_1024.py",
    "../_base_/schedules/adafactor_50e.py",
    "../_base_/default_runtime.py",
]

model = dict(dtype="bfloat16")
default_hooks = dict(samples=dict(prompts=["yoda pokemon", "a cute dragon", "a green turtle", "a yellow mouse"]))
