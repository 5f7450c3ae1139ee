"""LCM-LoRA of SDXL, for 2 to 8 steps (Luo et al., 2023, arXiv:2311.05556): an adapter of 197 M parameters, rank 64.

As diffusers' example trains it: no moving average, no embedding of the scale, skips of 20 timesteps, w in [3, 15] (scales in
[4, 16]), pseudo-Huber with c = 0.001. 12 pictures x 1 GPU = 12 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/lcm_runtime.py",
    "../_base_/schedules/lcm_lora_1k.py",
]

model = dict(
    dtype="bfloat16",
    student=dict(
        adapter=dict(
            type="LoraConfig",
            r=64,
            lora_alpha=64,
            target_modules=[
                "to_q",
                "to_k",
                "to_v",
                "to_out.0",
                "proj_in",
                "proj_out",
                "ff.net.0.proj",
                "ff.net.2",
                "conv1",
                "conv2",
                "conv_shortcut",
                "downsamplers.0.conv",
                "upsamplers.0.conv",
                "time_emb_proj",
            ],
        ),
    ),
    method=dict(type="LatentConsistency", guidance_scale=[4.0, 16.0], grid=50, target="student"),
    losses=dict(
        output=None,
        feature=None,
        task=dict(type="TaskLoss", distance=dict(type="PseudoHuber", c=0.001, per_element=True)),
    ),
)
train_dataloader = dict(batch_size=12)
default_hooks = dict(ema=None)
