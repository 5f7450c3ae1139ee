"""Progressive distillation (Salimans & Ho, 2022) of the embedded SDXL-layout teacher: 8, 4, 2, then 1 step, no guidance.

The first stage folds the guidance scale in and turns the teacher's epsilon into v-prediction, of which the plain error is
the paper's SNR + 1 weighting. In every stage the learning rate falls to zero along a line; there is no EMA.
"""

_base_ = ["./small_sd_xl_shapes.py"]

max_iters = 300
model = dict(
    student=dict(keep=dict(_delete_=True), prediction_type="v_prediction"),
    method=dict(type="ProgressiveDistillation", steps=8),
    losses=dict(output=None, feature=None),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=max_iters, by_epoch=False)]
default_hooks = dict(samples=dict(interval=max_iters))
stages = [
    dict(name="guided_8", model=dict(method=dict(guidance_scale=3.0))),
    dict(name="halved_4", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=4))),
    dict(name="halved_2", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=2))),
    dict(name="halved_1", model=dict(teacher=dict(denoiser="previous"), method=dict(steps=1))),
]
