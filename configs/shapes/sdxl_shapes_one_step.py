"""One step by distribution matching (DMD2: Yin et al., 2024, arXiv:2405.14867) of the embedded SDXL-layout teacher.

4 x 300 updates of 32 pictures to one step, as sdxl_shapes_progressive.py, and 500 of 32 captions that make it sharp:
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

stages = [*_base_.stages, _base_.pop("matched")]
default_hooks = dict(samples=dict(interval=300))
