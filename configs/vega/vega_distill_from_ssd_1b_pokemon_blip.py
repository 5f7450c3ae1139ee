"""Segmind Vega from SSD-1B on Pokemon-BLIP captions: 0.75 B of 1.33 B parameters; each of its tensors is one of SSD-1B's."""

_base_ = ["./vega_distill_from_sdxl_pokemon_blip.py"]

model = dict(teacher=dict(checkpoint="segmind/SSD-1B"))
