"""Half the depth of the SD3 class in one step; the fake score has the teacher's architecture.

The whole in two steps, the cut in two and in one (methods/thinned_shapes.py), and then matched
(methods/matched_sd3_shapes.py). It ends right and with one picture for all seeds: what is open (docs/results/few_steps.md).
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/cuts/half_depth_sd3_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_shapes.py",
    "../_base_/methods/matched_sd3_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(prediction_type=None), losses=dict(task=dict(weighting=dict(type="TruncatedSNR"))))
stages = [*_base_.pop("whole"), *_base_.pop("thinned"), _base_.pop("matched")]
default_hooks = dict(samples=dict(interval=300))
