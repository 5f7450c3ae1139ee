"""One step by distribution matching with one base in three roles: teacher, student and fake score.

With its adapters off the one denoiser in memory is the teacher; each of the others is a LoRA of rank 16. It starts from the
teacher itself, so it needs more updates than sdxl_shapes_one_step.py.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/datasets/shapes_over_seeds.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]

lora = dict(
    type="LoraConfig",
    r=16,
    lora_alpha=16,
    target_modules=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
    + ["conv1", "conv2", "conv_shortcut", "time_emb_proj"],
)
model = dict(
    student=dict(adapter=lora),
    method=dict(_delete_=True, type="DistributionMatching", steps=1, guidance_scale=1.5, fake_score=lora),
    losses=dict(task=dict(weight=0.5), output=None, feature=None),
)
train_cfg = dict(max_iters=1200, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=5e-4, betas=(0.0, 0.99)), paramwise_cfg=dict(fake_score=dict(lr=1e-3)))
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=600, end=1200, by_epoch=False)]
default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.02), samples=dict(interval=400)
)
del lora
