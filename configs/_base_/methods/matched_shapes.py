"""A last stage on shapes: a student of one step by distribution matching (DMD2: Yin et al., 2024, arXiv:2405.14867).

It comes with few steps: the teacher's architecture with two, a cut with one. The fake score learns what that student draws
in 50 updates alone, and then after every batch as the student does, 2.5 times as fast. The student has guidance folded in
already, so the teacher is asked at a scale of 1.5: at 3 colours become too strong and pictures alike
(docs/results/few_steps.md). From captions alone. `losses` holds DMD2's.
"""

matched = dict(
    name="matched",
    model=dict(
        method=dict(_delete_=True, type="DistributionMatching", steps=1, guidance_scale=1.5, warmup=50),
        losses=dict(task=dict(_delete_=True, type="TaskLoss", weight=0.5)),
    ),
    train_cfg=dict(max_iters=500, val_interval=250),
    optim_wrapper=dict(
        optimizer=dict(lr=2e-4, betas=(0.0, 0.99)),
        paramwise_cfg=dict(fake_score=dict(lr=5e-4)),
    ),
    param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=250, end=500, by_epoch=False)],
    default_hooks=dict(ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.02)),
)
