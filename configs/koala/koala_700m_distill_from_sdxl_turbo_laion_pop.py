"""KOALA-Turbo-700M from SDXL-Turbo at 512 x 512 on LAION-POP (Lee et al., 2024, arXiv:2312.04005): 0.78 B parameters."""

_base_ = ["./koala_700m_distill_from_sdxl_lightning_laion_pop.py"]

model = dict(teacher=dict(checkpoint="stabilityai/sdxl-turbo"))
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="ResizeCrop", size=512), dict(type="RandomFlip"), dict(type="PackInputs")])
)
