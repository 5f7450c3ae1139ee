"""Stable Diffusion 3.5 large (Stability AI, 2024) as the teacher of a full-size student.

Steps and scale are those of its model card.
"""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="StableDiffusion3", checkpoint="stabilityai/stable-diffusion-3.5-large"),
    sampling=dict(num_inference_steps=28, guidance_scale=3.5),
)
