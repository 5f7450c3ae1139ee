"""FLUX.1 dev (Black Forest Labs, 2024) as the teacher of a full-size student; merge a cut to thin it.

It is told the guidance scale, so a picture takes one call a step.
"""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="Flux", checkpoint="black-forest-labs/FLUX.1-dev"),
    sampling=dict(num_inference_steps=28, guidance_scale=3.5),
)
