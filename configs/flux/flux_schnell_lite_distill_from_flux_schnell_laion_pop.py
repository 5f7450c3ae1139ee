"""The depth of flux.1-lite-8B from FLUX.1 schnell, on LAION-POP at 1024 x 1024: 8.15 B parameters, four steps.

Our choice, of no paper: the teacher's licence is Apache-2.0, where that of FLUX.1 dev is not for commercial use. 1 picture
x 8 GPUs x 4 accumulation = 32 pictures an update.
"""

_base_ = [
    "../_base_/models/flux_schnell.py",
    "../_base_/cuts/flux_lite.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

train_dataloader = dict(batch_size=1)
