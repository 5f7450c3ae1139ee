"""6,000 steps of AdamW with a warm-up and a cosine to zero: how the embedded teachers of the shapes were trained."""

_base_ = ["./shapes_100.py"]

train_cfg = dict(max_iters=6000, val_interval=1000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=6000, T_max=5900, by_epoch=False),
]
