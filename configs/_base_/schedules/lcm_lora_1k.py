"""1,000 updates of AdamW 1e-4 without weight decay: diffusers' example of LCM-LoRA for SDXL."""

_base_ = ["./lcm_1k.py"]

optim_wrapper = dict(optimizer=dict(lr=1e-4))
