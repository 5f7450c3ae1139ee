"""DreamBooth by LoRA on a two-step student, at its own two timesteps, so that the two steps are kept.

What is trained and validated is that of sdxl_shapes_two_steps_dreambooth_lora_star.py; the targets differ, see
methods/grid_tuning.py.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/methods/grid_tuning.py",
    "../_base_/adapters/lora_star.py",
    "../_base_/datasets/dreambooth_star.py",
    "../_base_/schedules/star_300.py",
    "../_base_/star_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(
    teacher=dict(checkpoint="work_dirs/sdxl_two_steps"),
    student=dict(adapter=_base_.pop("adapter")),
    sampling=dict(_delete_=True, num_inference_steps=2, guidance_scale=1.0),  # guidance is folded in
)
train_dataloader = dict(dataset=dict(class_images=dict(weight=0)))  # the prior is what the student answers
