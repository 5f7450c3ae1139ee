"""SSD-1B, the published one, for guidance scales from 1 to 15, then in 40 to 1 steps (Meng et al., 2023)."""

_base_ = ["./sdxl_guidance_progressive_laion_pop.py"]

model = dict(teacher=dict(checkpoint="segmind/SSD-1B"))
