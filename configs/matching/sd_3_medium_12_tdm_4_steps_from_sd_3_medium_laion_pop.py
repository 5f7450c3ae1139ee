"""Half the depth of Stable Diffusion 3 medium in 4 steps: repaired, and then TDM with the whole model as fake score.

4 pictures x 2 GPUs x 4 accumulation = 32 pictures an update.
"""

_base_ = [
    "../_base_/models/sd_3_medium.py",
    "../_base_/cuts/sd_3_medium_12.py",
    "../_base_/methods/tdm_4_steps.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

train_dataloader = dict(batch_size=4)
