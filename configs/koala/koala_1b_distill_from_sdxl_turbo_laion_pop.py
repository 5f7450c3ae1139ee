"""KOALA-Turbo-1B from SDXL-Turbo at 512 x 512 on LAION-POP (Lee et al., 2024, arXiv:2312.04005): 1.16 B parameters."""

_base_ = ["./koala_1b_distill_from_sdxl_lightning_laion_pop.py"]

model = dict(teacher=dict(checkpoint="stabilityai/sdxl-turbo"))
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")])
)
