"""AdamW at a constant 5e-5, 50K updates, EMA, clip 1: BK-SDM's recipe (Kim et al., 2023, arXiv:2305.15798, sec. 4.1)."""

# 4 accumulated batches make an update: 50,000 updates x 4 = 200,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=200_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=5e-5, weight_decay=1e-2),
    accumulative_counts=4,
    clip_grad=dict(max_norm=1.0),
)
