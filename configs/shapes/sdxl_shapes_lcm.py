"""Latent consistency distillation (Luo et al., 2023) of the embedded SDXL-layout teacher, told the guidance scale.

The target is the average of the student with the paper's decay of 0.95; scales are drawn around the teacher's usual 3.
"""

_base_ = ["./small_sd_xl_shapes.py"]

max_iters = 600
model = dict(
    student=dict(keep=dict(_delete_=True), guidance_embedding=64),
    method=dict(type="LatentConsistency", guidance_scale=[2.0, 4.0], steps=2),
    losses=dict(
        task=dict(distance=dict(type="PseudoHuber", per_element=True)),
        output=None,
        feature=None,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=max_iters, by_epoch=False)]
default_hooks = dict(
    ema=dict(type="TargetEMAHook", ema_type="ExponentialMovingAverage", momentum=0.05), samples=dict(interval=max_iters)
)
