"""BK-SDM-Tiny's cut of the SD layout in one step; the fake score has the teacher's architecture.

The whole in two steps, the cut in two and in one (methods/thinned_shapes.py), by their outputs alone, and then matched
(methods/matched_shapes.py). Which tensors start from random values: bk_sdm_tiny_shapes.py.
"""

_base_ = [
    "../_base_/models/sd_shapes.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(keep={"down_blocks": [0, 1], "up_blocks": [1, 2]}), feature_pairs=None)
crossing = ("norm1.*", "conv1.weight", "conv_shortcut.weight")
fresh = dict(fresh=[f"up_blocks.0.resnets.0.{name}" for name in crossing])
cut_2, cut_1 = _base_.pop("thinned")
matched = _base_.pop("matched")
cut_2.model.student = matched.model.student = fresh
del cut_2.model["losses"], cut_1.model["losses"]
stages = [*_base_.pop("whole"), cut_2, cut_1, matched]
default_hooks = dict(samples=dict(interval=300))
del crossing, fresh, cut_2, cut_1, matched
