"""KOALA-Turbo-1B from SDXL-Turbo at 512 x 512 on LAION-POP (Lee et al., 2024, arXiv:2312.04005): 1.16 B parameters.

8 pictures x 4 GPUs x 4 accumulation = 128 pictures an update; the split and bf16 are our choice.
"""

_base_ = [
    "../_base_/models/sdxl_turbo.py",
    "../_base_/cuts/koala_1b.py",
    "../_base_/methods/koala.py",
    "../_base_/datasets/laion_pop_512.py",
    "../_base_/schedules/koala_500k.py",
    "../_base_/koala_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))
