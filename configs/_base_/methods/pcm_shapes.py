"""Phased consistency (Wang et al., 2024, arXiv:2405.18407) on shapes: 4 phases, all else as in `lcm_shapes.py`."""

_base_ = ["../schedules/shapes_100.py"]

method = dict(
    method=dict(_delete_=True, type="LatentConsistency", guidance_scale=[2.0, 4.0], grid=40, phases=4),
    losses=dict(task=dict(distance=dict(type="PseudoHuber", per_element=True)), output=None, feature=None),
)
train_cfg = dict(max_iters=600, val_interval=600)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=600, by_epoch=False)]
