"""Trains the embedded teacher of the SD3 class from the parts of the SDXL layout.

`tools/make_shapes.py work_dirs/shapes_parts --layout sd3 --parts diffdistill::sdxl_shapes` makes them.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_teacher_6k.py",
    "../_base_/shapes_runtime.py",
]

model = dict(teacher=dict(checkpoint="work_dirs/shapes_parts/sd3"), losses=dict(output=None, feature=None))
optim_wrapper = dict(optimizer=dict(lr=2e-3))  # at 1e-3 it is 1.2 points behind after 6,000 steps
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.003),
    checkpoint=dict(interval=500),
    samples=dict(interval=1000),
    logger=dict(interval=100),
)
