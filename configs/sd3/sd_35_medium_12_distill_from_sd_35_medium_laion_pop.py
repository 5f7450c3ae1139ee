"""Stable Diffusion 3.5 medium in half its depth, on LAION-POP at 1024 x 1024: 1.11 B parameters. Our choice, of no paper.

4 pictures x 2 GPUs x 4 accumulation = 32 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_35_medium.py",
    "../_base_/cuts/sd_3_medium_12.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

train_dataloader = dict(batch_size=4)
