"""A latent consistency model of SDXL, for 1 to 8 steps (Luo et al., 2023, arXiv:2310.04378).

As diffusers' example trains it: skips of 20 timesteps, w in [3, 15] (scales in [4, 16]), an embedding 256 wide, pseudo-Huber
with c = 0.001. 12 pictures x 1 GPU = 12 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/lcm.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/lcm_1k.py",
    "../_base_/lcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
train_dataloader = dict(batch_size=12)
