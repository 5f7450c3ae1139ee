"""The published SSD-1B in 4 steps without guidance, as its own teacher (Salimans & Ho, 2022, arXiv:2202.00512)."""

_base_ = ["./sdxl_progressive_4_steps_laion_pop.py"]

model = dict(teacher=dict(checkpoint="segmind/SSD-1B"))
