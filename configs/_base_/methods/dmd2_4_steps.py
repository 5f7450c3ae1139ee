"""Cut, repair, then 4 steps by DMD2 (Yin et al., 2024, arXiv:2405.14867).

From the authors' code for SDXL: times 999, 749, 499 and 249 by backward simulation, guidance 8 of the real score, five
updates of the fake score for one of the student, AdamW 5e-7, gradients of each network clipped to 10, batch 128. Ours: the
repair before it (the config's own losses, AdamW 1e-5, 20,000 updates), 4,000 updates of the student, the average, and no
discriminator.
"""

# 2 accumulated batches make an update: 20,000 x 2 iterations of repair; 4,000 x 5 x 2 of matching
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=0.01),
    accumulative_counts=2,
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type="LinearLR", start_factor=0.001, end=1000, by_epoch=False)]

stages = [
    dict(name="repaired"),
    dict(
        name="matched",
        model=dict(
            method=dict(_delete_=True, type="DistributionMatching", steps=4, guidance_scale=8.0, ratio=5),
            losses=dict(task=dict(_delete_=True, type="TaskLoss", weight=0.5), output=None, feature=None),
        ),
        optim_wrapper=dict(
            optimizer=dict(lr=5e-7), clip_grad=dict(max_norm=10.0), paramwise_cfg=dict(fake_score=dict(lr=5e-7))
        ),
        default_hooks=dict(ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.001)),
    ),
]
