"""Segmind Vega in two stages on Pokemon-BLIP captions: SDXL -> SSD-1B, which is then the teacher of Vega.

Sizes and losses: Gupta et al., 2024, arXiv:2401.02677. Each stage is as `vega_distill_from_sdxl_pokemon_blip.py`:
2 pictures x 1 GPU = 2 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/vega.py",
    "../_base_/methods/by_way_of_ssd_1b.py",
    "../_base_/datasets/pokemon_blip_1024.py",
    "../_base_/schedules/adafactor_50e.py",
    "../_base_/pokemon_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="bfloat16")
