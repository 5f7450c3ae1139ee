"""What LCM and LCM-LoRA share (Luo et al., 2023, arXiv:2310.04378), as in diffusers' example of consistency distillation.

Skips of 20 timesteps, w in [3, 15], which are scales in [4, 16], and pseudo-Huber with c = 0.001.
"""

method = dict(
    method=dict(type="LatentConsistency", guidance_scale=[4.0, 16.0], grid=50),
    losses=dict(
        output=None,
        feature=None,
        task=dict(type="TaskLoss", distance=dict(type="PseudoHuber", c=0.001, per_element=True)),
    ),
)
