"""The depth of flux.1-lite-8B from FLUX.1 dev, on LAION-POP at 1024 x 1024: 8.16 B parameters.

1 picture x 8 GPUs x 4 accumulation = 32 pictures an update. Freepik has not published its recipe: data, losses and schedule
are our choice.
"""

_base_ = [
    "../_base_/models/flux_dev.py",
    "../_base_/cuts/flux_lite.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/adafactor_50k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

train_dataloader = dict(batch_size=1)
