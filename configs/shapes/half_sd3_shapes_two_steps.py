"""Smaller and faster: half the depth of the SD3 class, sampled in two Euler steps, without guidance.

Steps first, layers second: methods/thinned_sd3_shapes.py says how. Its last halving is left out.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/cuts/half_depth_sd3_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_sd3_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(prediction_type=None), losses=dict(task=dict(weighting=dict(type="TruncatedSNR"))))
stages = [*_base_.pop("whole"), _base_.pop("thinned")[0]]
default_hooks = dict(samples=dict(interval=300))
