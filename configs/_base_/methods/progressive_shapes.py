"""Progressive distillation (Salimans & Ho, 2022) on shapes: 8, 4, 2, then 1 step of 300 updates each, no guidance.

The first stage folds the guidance scale in and turns the teacher's epsilon into v-prediction, of which the plain error is
the paper's SNR + 1 weighting. In every stage the learning rate falls to zero along a line; there is no EMA.
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
    dict(name="halved_4", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=4))),
    dict(name="halved_2", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=2))),
    dict(name="halved_1", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=1))),
]
