"""LCM-LoRA of SDXL, for 2 to 8 steps (Luo et al., 2023, arXiv:2311.05556): an adapter of 197 M parameters, rank 64.

As diffusers' example trains it: no moving average, no embedding of the scale, skips of 20 timesteps, w in [3, 15] (scales in
[4, 16]), pseudo-Huber with c = 0.001. 12 pictures x 1 GPU = 12 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/lcm_lora.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/lcm_lora_1k.py",
    "../_base_/lcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
train_dataloader = dict(batch_size=12)
default_hooks = dict(ema=None)
