"""Stable Diffusion 3.5 medium (Stability AI, 2024) as the teacher of a full-size student; otherwise as sd_3_medium.py.

Steps and scale are those of its model card.
"""

_base_ = ["./sd_3_medium.py"]

model = dict(
    teacher=dict(checkpoint="stabilityai/stable-diffusion-3.5-medium"),
    sampling=dict(num_inference_steps=40, guidance_scale=4.5),
)
