"""A latent consistency model of the published Segmind Vega, for 1 to 8 steps (Luo et al., 2023, arXiv:2310.04378)."""

_base_ = ["./sdxl_lcm_laion_pop.py"]

model = dict(teacher=dict(checkpoint="segmind/Segmind-Vega"))
