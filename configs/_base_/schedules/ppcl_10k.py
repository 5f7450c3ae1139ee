"""From 1e-5 to zero along a cosine: PPCL's learning rate (Ma et al., 2025, arXiv:2511.16156). The rest is our choice."""

_base_ = ["./adafactor_50k.py"]

# 4 accumulated batches make an update: 10,000 updates x 4 = 40,000 iterations
train_cfg = dict(max_iters=40_000)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=40_000, by_epoch=False)]
