"""Distribution matching on shapes: 8 steps under guidance first, and then 1 by DMD2's gradient, with no picture.

The first stage is that of progressive_shapes.py. In the second the fake score learns after every batch as the student does
(Luo et al., 2025, arXiv:2503.06674, TDM), 2.5 times as fast. `losses` holds DMD2's (Yin et al., 2024, arXiv:2405.14867).
"""

_base_ = ["../schedules/shapes_100.py"]

method = dict(
    student=dict(prediction_type="v_prediction"),
    method=dict(_delete_=True, type="ProgressiveDistillation", steps=8),
    losses=dict(output=None, feature=None),
)
train_cfg = dict(max_iters=300, val_interval=300)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=300, by_epoch=False)]
stages = [
    dict(name="guided_8", model=dict(method=dict(guidance_scale=3.0))),
    dict(
        name="matched",
        model=dict(
            method=dict(_delete_=True, type="DistributionMatching", steps=1, guidance_scale=3.0),
            losses=dict(task=dict(_delete_=True, type="TaskLoss", weight=0.5)),
        ),
        train_cfg=dict(max_iters=800, val_interval=200),
        optim_wrapper=dict(
            optimizer=dict(lr=2e-4, betas=(0.0, 0.99)),
            paramwise_cfg=dict(fake_score=dict(lr=5e-4)),
        ),
        param_scheduler=[dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=400, end=800, by_epoch=False)],
        default_hooks=dict(ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.02)),
    ),
]
