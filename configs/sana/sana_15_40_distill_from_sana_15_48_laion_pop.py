"""SANA-1.5 in 40 of its 60 blocks (Xie et al., 2025, arXiv:2501.18427), on LAION-POP at 1024 x 1024: 3.16 B parameters.

8 pictures x 1 GPU x 8 accumulation = 64 pictures an update, 100 updates as in the paper. The choice of blocks, the data and
the comparison with a teacher are ours: the authors only tune.
"""

_base_ = [
    "../_base_/models/sana_15_48.py",
    "../_base_/cuts/sana_15_40.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/sana_15_100.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

default_hooks = dict(checkpoint=dict(interval=400), samples=dict(interval=400))  # halfway and at the end
