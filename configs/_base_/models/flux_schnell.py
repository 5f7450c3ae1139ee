"""FLUX.1 schnell (Black Forest Labs, 2024) as the teacher of a full-size student, otherwise as flux_dev.py.

It draws in four steps, without guidance and without an embedding of its scale, and was trained with 256 tokens of T5. Real
pictures would unlearn the four steps, so the student follows its teacher alone.
"""

_base_ = ["./flux_dev.py"]

model = dict(
    teacher=dict(checkpoint="black-forest-labs/FLUX.1-schnell", max_sequence_length=256),
    losses=dict(task=None),
    sampling=dict(num_inference_steps=4, guidance_scale=0.0),
)
