"""200 steps of AdamW with a cosine to zero: a few tens of seconds on one core."""

train_cfg = dict(type="IterBasedTrainLoop", max_iters=200, val_interval=200)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=200, by_epoch=False)]
