"""300 steps of AdamW with a warm-up and a cosine to zero, on five pictures of stars."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=300, val_interval=150)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, end=20, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=20, T_max=280, by_epoch=False),
]
