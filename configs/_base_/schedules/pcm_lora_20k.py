"""20,000 updates of AdamW 2e-6 without weight decay: the script of PCM's authors for SDXL, but its 8-bit Adam."""

_base_ = ["./lcm_1k.py"]

train_cfg = dict(max_iters=20_000)
optim_wrapper = dict(optimizer=dict(lr=2e-6))
