"""One step by distribution matching (DMD2: Yin et al., 2024, arXiv:2405.14867) of the embedded teacher of the SD3 class.

3 x 300 updates of 32 pictures to two Euler steps, as sd3_shapes_progressive.py, and 800 of 32 captions that take those to
one: methods/matched_sd3_shapes.py says how.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/matched_sd3_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(prediction_type=None), losses=dict(task=dict(weighting=dict(type="TruncatedSNR"))))
stages = [*_base_.stages[:3], _base_.pop("matched")]
default_hooks = dict(samples=dict(interval=300))
