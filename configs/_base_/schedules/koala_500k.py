"""AdamW at a constant 1e-5, 500K updates of 128 pictures: KOALA's recipe (Lee et al., 2024, arXiv:2312.04005)."""

# 8 pictures x 4 GPUs x 4 accumulation = 128 pictures an update; 500,000 updates x 4 = 2,000,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2_000_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-2),
    accumulative_counts=4,
    clip_grad=dict(max_norm=1.0),
)
