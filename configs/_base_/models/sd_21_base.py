"""Stable Diffusion 2.1-base (Rombach et al., 2022, arXiv:2112.10752), 512 x 512, as the teacher; otherwise as sd_14.py."""

_base_ = ["./sd_14.py"]

model = dict(teacher=dict(checkpoint="stabilityai/stable-diffusion-2-1-base"))
