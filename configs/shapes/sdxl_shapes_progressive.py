"""Progressive distillation (Salimans & Ho, 2022) of the embedded SDXL-layout teacher: 8, 4, 2, then 1 step, no guidance.

4 x 300 updates of 32 pictures; methods/progressive_shapes.py says what each stage does.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

default_hooks = dict(samples=dict(interval=300))
