"""SANA 1.6B in half its depth, from SANA 1.6B on LAION-POP at 1024 x 1024: 0.83 B parameters. Our choice, of no paper.

8 pictures x 1 GPU x 4 accumulation = 32 pictures an update.
"""

_base_ = [
    "../_base_/models/sana_16.py",
    "../_base_/cuts/sana_16_10.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
