"""Half the depth of the embedded teacher of the SD3 class: blocks 0, 2 and 5 of six, 1.69 M of 3.47 M parameters.

Task, output and feature losses, both streams compared at the ends of the intervals; 100 steps of 32 pictures.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/cuts/half_depth_sd3_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/sd3_shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
