"""LCM-LoRA of Stable Diffusion 1.5, for 2 to 8 steps (Luo et al., 2023, arXiv:2311.05556): 67 M parameters, rank 64.

12 pictures x 1 GPU = 12 pictures an update, 512 x 512.
"""

_base_ = ["./sdxl_lcm_lora_laion_pop.py"]

model = dict(teacher=dict(_delete_=True, type="StableDiffusion", checkpoint="stable-diffusion-v1-5/stable-diffusion-v1-5"))
train_dataloader = dict(
    dataset=dict(
        source="data/laion_aes/preprocessed_212k",
        pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")],
    )
)
