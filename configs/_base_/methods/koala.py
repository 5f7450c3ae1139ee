"""KOALA's distillation (Lee et al., 2024, arXiv:2312.04005): all losses with weight 1, sampled by Euler in 10 steps.

bf16 is our choice.
"""

method = dict(
    losses=dict(output=dict(weight=1.0), feature=dict(weight=1.0)),
    dtype="bfloat16",
    sampling=dict(scheduler="EulerDiscreteScheduler", num_inference_steps=10, guidance_scale=3.5),
)
