"""5,000 updates of AdamW 5e-6, weight decay 1e-3: the script of PCM's authors for SD 1.5, but its 8-bit Adam."""

_base_ = ["./lcm_1k.py"]

train_cfg = dict(max_iters=5000)
optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-3))
