"""50K updates of Adafactor at a constant 1e-5: our choice, for students whose AdamW state would not fit on a GPU."""

# 4 accumulated batches make an update: 50,000 updates x 4 = 200,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=200_000)
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
