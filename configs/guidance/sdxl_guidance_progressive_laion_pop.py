"""SDXL for all guidance scales from 1 to 15 at once, then in 40, 8, 4, 2 and 1 steps (Meng et al., 2023, arXiv:2210.03142).

8 pictures x 8 GPUs x 8 accumulation = 512 pictures an update; the learning rate, 1e-5, is ours.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/guidance_to_1_step.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/few_steps_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
optim_wrapper = dict(optimizer=dict(lr=1e-5))
