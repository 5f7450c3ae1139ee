"""Trains the embedded SDXL-layout teacher from the parts that `tools/make_shapes.py work_dirs/shapes_parts` makes.

Teacher-free: the task loss alone, and nothing in memory beside the denoiser, VAE and text encoders. Averaged weights (EMA
0.997) are what is validated and exported.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_teacher_6k.py",
    "../_base_/shapes_runtime.py",
]

model = dict(teacher=dict(checkpoint="work_dirs/shapes_parts/sdxl"), losses=dict(output=None, feature=None))
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.003),
    checkpoint=dict(interval=500),
    samples=dict(interval=1000),
    logger=dict(interval=100),
)
