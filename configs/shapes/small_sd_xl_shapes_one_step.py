"""Smaller and one step: the quick start's cut (63 % fewer parameters), repaired with features, then matched.

The fake score has the teacher's architecture. 200 updates repair the cut, 300 bring it to 8 steps under guidance, still with
features, and 800 to 1 by distribution matching; methods/matching_shapes.py says what the last two stages do.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/methods/matching_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

kd = dict(feature=dict(_delete_=True, type="FeatureKD", normalize=True))
repaired = dict(
    name="repaired",
    model=dict(method=dict(_delete_=True, type="DenoisingKD"), losses=dict(kd, output=dict(_delete_=True, type="OutputKD"))),
    train_cfg=dict(max_iters=200, val_interval=200),
    optim_wrapper=dict(optimizer=dict(lr=1e-3)),
    param_scheduler=[dict(type="CosineAnnealingLR", T_max=200, by_epoch=False)],
)
guided, matched = _base_.stages
stages = [repaired, dict(guided, model=dict(guided["model"], losses=kd)), matched]
default_hooks = dict(samples=dict(interval=400))
del kd, repaired, guided, matched
