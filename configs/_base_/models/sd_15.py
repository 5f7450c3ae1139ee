"""Stable Diffusion 1.5 (Rombach et al., 2022, arXiv:2112.10752) as the teacher of a student of its own size."""

_base_ = ["./sd_14.py"]

model = dict(
    teacher=dict(checkpoint="stable-diffusion-v1-5/stable-diffusion-v1-5"),
    losses=dict(feature=None),
    sampling=dict(scheduler="DDIMScheduler", num_inference_steps=40),
)
