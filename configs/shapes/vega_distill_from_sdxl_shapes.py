"""Segmind Vega's cut (Gupta et al., 2024) on the SDXL layout: SSD-1B's, and its transformers thinned once more.

Like Vega it keeps every ResNet. SSD-1B's counterpart is down to one transformer layer everywhere, so here the attentions of
the middle stage go.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/vega_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
