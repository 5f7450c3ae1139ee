"""The quick start's student with weights of 2 bits: four values in groups of 32 input channels.

Convolutions and linear layers of the blocks compute with them from the first step on; all else is the quick start's.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/one_layer_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(student=dict(quantize=dict(bits=2)))
