"""Stable Diffusion 1.5 in 8, 4, 2, then 1 phase, after Hyper-SD (Ren et al., 2024, arXiv:2404.13686), told the scale.

methods/hyper.py says what is ours. Each stage has the updates of a latent consistency model here: 4 x 1,000 of AdamW 1e-6.
12 pictures x 1 GPU = 12 pictures an update, 512 x 512.
"""

_base_ = [
    "../_base_/models/sd_15.py",
    "../_base_/methods/hyper.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/schedules/lcm_1k.py",
    "../_base_/lcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
train_dataloader = dict(batch_size=12)
