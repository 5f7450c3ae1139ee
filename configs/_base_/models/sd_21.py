"""Stable Diffusion 2.1 (Rombach et al., 2022, arXiv:2112.10752), 768 x 768, v-prediction, as the teacher; see sd_14.py."""

_base_ = ["./sd_14.py"]

model = dict(teacher=dict(checkpoint="stabilityai/stable-diffusion-2-1"))
