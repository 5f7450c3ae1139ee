"""The quick start: BK-SDM's cut (Kim et al., 2023) on the SDXL layout, 1.46 M of 3.97 M parameters.

One layer a block, no mid block, one transformer layer. Task, output and feature losses; 100 steps of 32 pictures.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
