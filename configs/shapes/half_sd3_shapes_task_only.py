"""Half the depth of the SD3 class without its teacher: the task loss alone."""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/cuts/half_depth_sd3_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/sd3_shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(losses=dict(output=None, feature=None))
