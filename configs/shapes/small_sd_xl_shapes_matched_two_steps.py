"""Smaller, in two steps: the quick start's cut, matched after backward simulation of its own deterministic steps.

The whole in two steps and the cut in two (methods/thinned_shapes.py), and then what methods/matched_shapes.py does, with the
state after each step compared (TDM: Luo et al., 2025, arXiv:2503.06674).
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

matched = _base_.pop("matched")
matched.model.method.update(steps=2, match="trajectory")
stages = [*_base_.pop("whole"), _base_.pop("thinned")[0], matched]
del matched
default_hooks = dict(samples=dict(interval=300))
