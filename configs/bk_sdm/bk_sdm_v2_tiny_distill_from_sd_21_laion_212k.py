"""BK-SDM-v2-Tiny from SD 2.1, 768 x 768, v-prediction (github.com/Nota-NetsPresso/BK-SDM, scripts/kd_train_v2-im768.sh).

32 pictures x 1 GPU x 4 accumulation = 128 pictures an update.
"""

_base_ = ["./bk_sdm_v2_tiny_distill_from_sd_21_base_laion_212k.py"]

model = dict(teacher=dict(checkpoint="stabilityai/stable-diffusion-2-1"))
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="ResizeCrop", size=768), dict(type="RandomFlip"), dict(type="PackInputs")])
)
