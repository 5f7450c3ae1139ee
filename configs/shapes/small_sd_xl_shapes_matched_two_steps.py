"""Smaller, in two steps: the quick start's cut, repaired with features, then matched after backward simulation.

As small_sd_xl_shapes_one_step.py, but for the student's times in the last stage; it noises x_0 anew between its steps.
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
two = dict(type="DistributionMatching", steps=2, guidance_scale=3.0, _delete_=True)
stages = [
    repaired,
    dict(guided, model=dict(guided["model"], losses=kd)),
    dict(matched, model=dict(matched["model"], method=two)),
]
default_hooks = dict(samples=dict(interval=400))
del kd, repaired, guided, matched, two
