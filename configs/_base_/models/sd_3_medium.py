"""Stable Diffusion 3 medium (Esser et al., 2024, arXiv:2403.03206) as the teacher of a full-size student.

Merge a cut to thin it. Timesteps are those of the paper, sec. 3.1.
"""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="StableDiffusion3", checkpoint="stabilityai/stable-diffusion-3-medium-diffusers"),
    sampling=dict(num_inference_steps=28, guidance_scale=7.0),
)
