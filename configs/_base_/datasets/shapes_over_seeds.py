"""The procedural shapes; validation says beside the accuracy whether other seeds of a caption give other pictures.

For students of few steps, to whom it costs little: 240 more pictures, of 16 captions from 15 more seeds each.
"""

_base_ = ["./shapes.py"]

val_evaluator = [dict(type="CaptionAccuracy"), dict(type="PositionEntropy")]
