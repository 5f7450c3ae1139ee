"""One step by distribution matching (DMD2: Yin et al., 2024, arXiv:2405.14867) of the embedded SDXL-layout teacher.

300 updates to 8 steps and 800 to 1, of 32 captions; methods/matching_shapes.py says what each stage does.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/matching_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

default_hooks = dict(samples=dict(interval=400))
