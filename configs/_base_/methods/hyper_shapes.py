"""Hyper-SD's stages (Ren et al., 2024, arXiv:2404.13686, alg. 1) on shapes: 8, 4, 2, then 1 phase, 150 updates each.

Each stage trains the student of the one before it on; the teacher stays the same. All else is as in `pcm_shapes.py`, with
the learning rate falling to zero within each stage.
"""

_base_ = ["../schedules/shapes_100.py"]

method = dict(
    method=dict(_delete_=True, type="LatentConsistency", guidance_scale=[2.0, 4.0], grid=40, phases=8),
    losses=dict(task=dict(distance=dict(type="PseudoHuber", per_element=True)), output=None, feature=None),
)
train_cfg = dict(max_iters=150, val_interval=150)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, end=150, by_epoch=False)]
stages = [
    dict(name="phases_8"),
    dict(name="phases_4", model=dict(method=dict(phases=4))),
    dict(name="phases_2", model=dict(method=dict(phases=2))),
    dict(name="phases_1", model=dict(method=dict(phases=1, steps=1))),
]
