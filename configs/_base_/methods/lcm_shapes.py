"""Latent consistency distillation (Luo et al., 2023) on shapes: 600 updates, scales drawn around the teacher's usual 3."""

_base_ = ["../schedules/shapes_100.py"]

method = dict(
    method=dict(_delete_=True, type="LatentConsistency", guidance_scale=[2.0, 4.0], steps=2),
    losses=dict(task=dict(distance=dict(type="PseudoHuber", per_element=True)), output=None, feature=None),
)
train_cfg = dict(max_iters=600, val_interval=600)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=600, by_epoch=False)]
