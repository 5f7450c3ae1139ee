"""Segmind Vega from SDXL with the settings of its paper (Gupta et al., 2024, arXiv:2401.02677, and the model card).

16 pictures x 1 GPU x 8 accumulation = 128 pictures an update, fp16, AdamW 1e-5.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/vega.py",
    "../_base_/datasets/grit_midjourney_1024.py",
    "../_base_/grit_midjourney_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="float16")
# 540,000 updates x 8 accumulation = 4,320,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=4_320_000)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-2),
    accumulative_counts=8,
    clip_grad=dict(max_norm=1.0),
)
