"""Trains the embedded SD-layout teacher; see sdxl_shapes_teacher.py."""

_base_ = [
    "../_base_/models/sd_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_teacher_6k.py",
    "../_base_/shapes_runtime.py",
]

model = dict(teacher=dict(checkpoint="work_dirs/shapes_parts/sd"), losses=dict(output=None, feature=None))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.003),
    checkpoint=dict(interval=500),
    samples=dict(interval=1000),
    logger=dict(interval=100),
)
