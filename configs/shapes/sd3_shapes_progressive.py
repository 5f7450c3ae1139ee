"""Progressive distillation of the embedded teacher of the SD3 class: 8, 4, 2, then 1 Euler step, no guidance.

4 x 300 updates of 32 pictures; methods/progressive_shapes.py says what each stage does. Velocities are what flow matching
predicts in any case; their plain error counts the first, noisiest step too little, hence the weighting.
"""

_base_ = [
    "../_base_/models/sd3_shapes.py",
    "../_base_/methods/progressive_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(student=dict(prediction_type=None), losses=dict(task=dict(weighting=dict(type="TruncatedSNR"))))
default_hooks = dict(samples=dict(interval=300))
