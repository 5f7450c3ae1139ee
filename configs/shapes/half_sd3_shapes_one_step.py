"""Half the depth of the SD3 class in one step; the fake score has the teacher's architecture.

The whole in two steps, the cut in two (methods/thinned_sd3_shapes.py), and from there matched in one
(methods/matched_sd3_shapes.py): what is trained longer, and not halved once more, keeps its positions.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/cuts/half_depth_sd3_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/thinned_sd3_shapes.py",
    "../_base_/methods/matched_sd3_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(prediction_type=None), losses=dict(task=dict(weighting=dict(type="TruncatedSNR"))))
stages = [*_base_.pop("whole"), _base_.pop("thinned")[0], _base_.pop("matched")]
default_hooks = dict(samples=dict(interval=300))
