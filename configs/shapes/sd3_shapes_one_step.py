"""One step by distribution matching (DMD2: Yin et al., 2024, arXiv:2405.14867) of the embedded teacher of the SD3 class.

4 x 300 updates of 32 pictures to one Euler step, as sd3_shapes_progressive.py, and 500 of 32 captions that make it sharp:
methods/matched_shapes.py says how.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/methods/matched_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

matched = _base_.pop("matched")
matched.model.method.guidance_scale = 3.0  # at 1.5 it stays at 91 %
model = dict(student=dict(prediction_type=None), losses=dict(task=dict(weighting=dict(type="TruncatedSNR"))))
stages = [*_base_.stages, matched]
default_hooks = dict(samples=dict(interval=300))
del matched
