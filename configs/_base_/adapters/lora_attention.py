"""LoRA of rank 8 on the attention of the denoiser: DiffEngine's adapter of SSD-1B's DreamBooth."""

adapter = dict(type="LoraConfig", r=8, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
