"""SSD-1B distilled from SDXL on Pokemon-BLIP captions, setting 2: first weights of segmind/SSD-1B."""

_base_ = ["./ssd_1b_distill_from_sdxl_pokemon_blip.py"]

model = dict(student=dict(checkpoint="segmind/SSD-1B"))
