"""BK-SDM-v2-Tiny from SD 2.1-base, 512 x 512 (github.com/Nota-NetsPresso/BK-SDM, scripts/kd_train_v2-base-im512.sh).

32 pictures x 1 GPU x 4 accumulation = 128 pictures an update.
"""

_base_ = ["./bk_sdm_tiny_distill_from_sd_14_laion_212k.py"]

model = dict(teacher=dict(checkpoint="stabilityai/stable-diffusion-2-1-base"))
train_dataloader = dict(batch_size=32)
