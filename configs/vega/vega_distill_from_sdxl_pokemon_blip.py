"""Segmind Vega from SDXL on Pokemon-BLIP captions: 0.75 B of 2.57 B parameters (Gupta et al., 2024, arXiv:2401.02677).

2 pictures x 1 GPU = 2 pictures an update, bf16, gradient checkpointing: the settings of SSD-1B on the same pictures.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/vega.py",
    "../_base_/datasets/pokemon_blip_1024.py",
    "../_base_/schedules/adafactor_50e.py",
    "../_base_/pokemon_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="bfloat16")
