"""Adafactor 1e-5, 50 epochs of 833 pictures at batch 2: DiffEngine's recipe for SSD-1B on Pokemon-BLIP."""

# 833 pictures / 2 a batch = 417 steps an epoch; 50 epochs = 20,850 steps
train_cfg = dict(type="IterBasedTrainLoop", max_iters=20_850)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(
        type="transformers.optimization.Adafactor",
        lr=1e-5,
        weight_decay=1e-2,
        scale_parameter=False,
        relative_step=False,
    ),
    clip_grad=dict(max_norm=1.0),
)
