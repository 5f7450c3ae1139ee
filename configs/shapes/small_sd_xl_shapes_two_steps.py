"""Smaller and faster: the quick start's cut (63 % fewer parameters), sampled in two steps and in one, without guidance.

Steps first, layers second: methods/thinned_shapes.py says how.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

stages = [*_base_.pop("whole"), *_base_.pop("thinned")]
default_hooks = dict(samples=dict(interval=300))
