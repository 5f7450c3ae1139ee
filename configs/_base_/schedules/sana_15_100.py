"""100 updates, as SANA-1.5 tunes a pruned model (Xie et al., 2025, arXiv:2501.18427); AdamW at 1e-5 is our choice."""

# 8 accumulated batches make an update: 100 updates x 8 = 800 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=800)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-2),
    accumulative_counts=8,
    clip_grad=dict(max_norm=1.0),
)
