"""From 1e-5 to zero along a cosine: PPCL's learning rate (Ma et al., 2025, arXiv:2511.16156). The rest is our choice."""

# 4 accumulated batches make an update: 10,000 updates x 4 = 40,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(
        type="transformers.optimization.Adafactor",
        lr=1e-5,
        weight_decay=1e-2,
        scale_parameter=False,
        relative_step=False,
    ),
    accumulative_counts=4,
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=40_000, by_epoch=False)]
