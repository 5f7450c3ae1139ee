"""PixArt-Sigma in half its depth, on LAION-POP at 1024 x 1024: 0.31 B parameters. Our choice, of no paper.

8 pictures x 1 GPU x 4 accumulation = 32 pictures an update.
"""

_base_ = [
    "../_base_/models/pixart_sigma.py",
    "../_base_/cuts/pixart_sigma_14.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
