"""One step by distribution matching (DMD2: Yin et al., 2024, arXiv:2405.14867) of the embedded SDXL-layout teacher.

3 x 300 updates of 32 pictures to two steps, as sdxl_shapes_progressive.py, and 500 of 32 captions that take those to one:
methods/matched_shapes.py says how.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

stages = [*_base_.stages[:3], _base_.pop("matched")]
default_hooks = dict(samples=dict(interval=300))
