"""SDXL for all guidance scales from 1 to 15 at once, then in 40, 8, 4, 2 and 1 steps (Meng et al., 2023, arXiv:2210.03142).

8 pictures x 8 GPUs x 8 accumulation = 512 pictures an update; the learning rate, 1e-5, is ours.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/few_steps_runtime.py",
    "../_base_/schedules/guidance_to_1_step.py",
]

model = dict(dtype="bfloat16", student=dict(prediction_type="v_prediction"), losses=dict(task=None, feature=None))
optim_wrapper = dict(optimizer=dict(lr=1e-5))
