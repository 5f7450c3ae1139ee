"""SSD-1B's cut (Gupta et al., 2024) on the SDXL layout: shallower transformers, no attention in the mid block."""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/ssd_1b_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
