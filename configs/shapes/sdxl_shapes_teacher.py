"""Trains the embedded SDXL-layout teacher from the parts that `tools/make_shapes.py work_dirs/shapes_parts` makes.

Teacher-free: the task loss alone, and nothing in memory beside the denoiser, VAE and text encoders. Averaged weights (EMA
0.997) are what is validated and exported.
"""

_base_ = ["./small_sd_xl_shapes.py"]

max_iters = 6000
model = dict(
    teacher=dict(checkpoint="work_dirs/shapes_parts/sdxl"),
    student=dict(keep=dict(_delete_=True)),
    losses=dict(output=None, feature=None),
)
train_cfg = dict(max_iters=max_iters, val_interval=1000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", T_max=max_iters - 100, begin=100, end=max_iters, by_epoch=False),
]
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.003),
    checkpoint=dict(interval=500),
    samples=dict(interval=1000),
    logger=dict(interval=100),
)
