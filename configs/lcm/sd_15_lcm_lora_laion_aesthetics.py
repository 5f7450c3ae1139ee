"""LCM-LoRA of Stable Diffusion 1.5, for 2 to 8 steps (Luo et al., 2023, arXiv:2311.05556): 67 M parameters, rank 64.

12 pictures x 1 GPU = 12 pictures an update, 512 x 512.
"""

_base_ = [
    "../_base_/models/sd_15.py",
    "../_base_/methods/lcm_lora.py",
    "../_base_/datasets/laion_aesthetics_512.py",
    "../_base_/schedules/lcm_lora_1k.py",
    "../_base_/lcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

# Grids of the teacher are drawn with the scheduler of its checkpoint.
model = dict(dtype="bfloat16", sampling=dict(_delete_=True, num_inference_steps=25, guidance_scale=7.5))
train_dataloader = dict(batch_size=12)
default_hooks = dict(ema=None)
