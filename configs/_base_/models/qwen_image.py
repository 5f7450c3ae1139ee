"""Qwen-Image (Wu et al., 2025, arXiv:2508.02324) as the teacher of a full-size student; merge a cut to thin it.

Its pipeline is guided where it has a negative prompt, even an empty one.
"""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="QwenImage", checkpoint="Qwen/Qwen-Image"),
    sampling=dict(num_inference_steps=50, true_cfg_scale=4.0, negative_prompt=" "),
)
