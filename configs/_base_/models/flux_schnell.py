"""FLUX.1 schnell (Black Forest Labs, 2024) as the teacher of a full-size student.

It draws in four steps, without guidance and without an embedding of its scale, and was trained with 256 tokens of T5. Real
pictures would unlearn the four steps, so the student follows its teacher alone.
"""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="Flux", checkpoint="black-forest-labs/FLUX.1-schnell", max_sequence_length=256),
    losses=dict(task=None),
    sampling=dict(num_inference_steps=4, guidance_scale=0.0),
)
