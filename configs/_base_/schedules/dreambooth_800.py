"""800 steps of AdamW at a constant 1e-6: DreamBooth of the whole denoiser, as BK-SDM is personalised (Kim et al., 2023)."""

_base_ = ["./lora_500.py"]

train_cfg = dict(max_iters=800)
optim_wrapper = dict(optimizer=dict(lr=1e-6))
