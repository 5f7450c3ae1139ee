"""KOALA-Lightning-1B from SDXL-Lightning at 1024² on LAION-POP: 1.16 B parameters (Lee et al., 2024, arXiv:2312.04005).

8 pictures x 4 GPUs x 4 accumulation = 128 pictures an update; the split and bf16 are our choice. The hub's SDXL-Lightning is
a UNet without a pipeline around it: assemble one as the README here says, and set model.teacher.checkpoint to its folder.
"""

_base_ = [
    "../_base_/models/sdxl_lightning.py",
    "../_base_/cuts/koala_1b.py",
    "../_base_/methods/koala.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/koala_500k.py",
    "../_base_/koala_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))
