"""Cut, repair, then 4 deterministic steps by TDM (Luo et al., 2025, arXiv:2503.06674).

From the authors' code: one update of the fake score for one of the student, which learn at 2e-5 and 4e-6 with betas 0 and
0.95, pseudo-Huber 1e-3, and min(SNR, 5) for the fake score. Ours: the repair before it (the config's own losses, AdamW 1e-5,
20,000 updates), 4,000 updates of the student, clipping and the average.
"""

# 4 accumulated batches make an update: 20,000 x 4 iterations of repair; 4,000 x 4 of matching
train_cfg = dict(type="IterBasedTrainLoop", max_iters=80_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=0.01),
    accumulative_counts=4,
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type="LinearLR", start_factor=0.001, end=2000, by_epoch=False)]

fake_loss = dict(type="TaskLoss", weighting=dict(type="MinSNR", gamma=5.0))
huber = dict(type="PseudoHuber", c=0.001, per_element=True)
stages = [
    dict(name="repaired"),
    dict(
        name="matched",
        model=dict(
            method=dict(
                _delete_=True,
                type="DistributionMatching",
                steps=4,
                match="trajectory",
                normalize=False,
                guidance_scale=7.0,
                fake_loss=fake_loss,
            ),
            losses=dict(task=dict(_delete_=True, type="TaskLoss", distance=huber), output=None, feature=None),
        ),
        train_cfg=dict(max_iters=16_000),
        optim_wrapper=dict(optimizer=dict(lr=4e-6, betas=(0.0, 0.95)), paramwise_cfg=dict(fake_score=dict(lr=2e-5))),
        default_hooks=dict(ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.001)),
    ),
]
del fake_loss, huber
