"""LoRA on Segmind's tiny-sd, UNet and text encoder, with its settings (distill-sd: 1e-4, r 4, alpha 32), on Pokemon-BLIP.

2 pictures x 1 GPU x 4 accumulation = 8 pictures an update; 833 pictures / 8 = 105 updates an epoch, 20 epochs = 2,100
updates = 8,400 iterations. Pictures and length are ours: Segmind names none.
"""

_base_ = [
    "../_base_/models/ft_sd_tiny.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/pokemon_blip_512.py",
    "../_base_/schedules/lora_500.py",
    "../_base_/pokemon_runtime.py",
]

model = dict(
    adapter=dict(_base_.pop("adapter"), r=4, lora_alpha=32),
    text_encoder_adapter=dict(
        type="LoraConfig", r=4, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]
    ),
)
train_cfg = dict(max_iters=8400)
optim_wrapper = dict(accumulative_counts=4)
