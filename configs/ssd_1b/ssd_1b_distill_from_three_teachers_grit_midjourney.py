"""SSD-1B as in its paper (Gupta et al., 2024, arXiv:2401.02677, sec. 4): three teachers in turn, one student.

32 pictures x 1 GPU x 4 accumulation = 128 pictures an update; 251,000 updates in all, fp16, 1024 x 1024. The paper does not
say how the updates are shared among the teachers, nor which releases they were: both are our choice.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/ssd_1b.py",
    "../_base_/datasets/grit_midjourney_1024.py",
    "../_base_/grit_midjourney_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(dtype="float16")
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-2),
    accumulative_counts=4,
    clip_grad=dict(max_norm=1.0),
)
# 84,000 + 84,000 + 83,000 updates x 4 accumulation = 1,004,000 iterations
train_cfg = dict(type="IterBasedTrainLoop", max_iters=336_000)
stages = [
    dict(name="sdxl"),
    dict(name="zavychroma", model=dict(teacher=dict(checkpoint="stablediffusionapi/zavychromaxlv3"))),
    dict(
        name="juggernaut",
        model=dict(teacher=dict(checkpoint="RunDiffusion/Juggernaut-XL-v9")),
        train_cfg=dict(max_iters=332_000),
    ),
]
