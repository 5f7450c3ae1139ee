"""The quick start with random conditioning (Kim et al., CVPR 2025): captions swapped within the batch, no task loss."""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/methods/random_conditioning.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))
