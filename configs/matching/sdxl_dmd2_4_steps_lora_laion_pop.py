"""SDXL in 4 steps by a LoRA, with one base in three roles: teacher, student and fake score (DMD2: Yin et al., 2024).

From the authors' code: LoRA of rank 64, AdamW 5e-5, guidance 8, five updates of the fake score for one of the student, clip
10, batch 128. Ours: that the fake score is an adapter as well.

8 pictures x 8 GPUs x 2 accumulation = 128 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/few_steps_runtime.py",
]

lora = dict(
    type="LoraConfig",
    r=64,
    lora_alpha=64,
    target_modules=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
    + ["conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"],
)
model = dict(
    student=dict(adapter=lora),
    method=dict(_delete_=True, type="DistributionMatching", steps=4, guidance_scale=8.0, ratio=5, fake_score=lora),
    losses=dict(task=dict(weight=0.5), output=None, feature=None),
    dtype="bfloat16",
)
# 4,000 updates of the student x 5 x 2
train_cfg = dict(max_iters=40_000)
optim_wrapper = dict(
    _delete_=True,
    type="MixedPrecision",
    optimizer=dict(type="AdamW", lr=5e-5, weight_decay=0.01),
    accumulative_counts=2,
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [dict(type="LinearLR", start_factor=0.001, end=1000, by_epoch=False)]
del lora
