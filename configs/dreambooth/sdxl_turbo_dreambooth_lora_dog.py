"""DreamBooth by LoRA on SDXL-Turbo, at its own four timesteps: five photographs of one dog.

r 8, alpha 8 on the attention of the UNet. 1 pair x 1 GPU = a picture of the dog and a class caption an update, 500 updates.
At 512 x 512, Turbo's own size. Leaves `step499` for `pipe.load_lora_weights`. Not run here; its like on shapes,
sdxl_shapes_two_steps_dreambooth_grid_star.py, is measured.
"""

_base_ = [
    "../_base_/models/sdxl_turbo.py",
    "../_base_/methods/grid_tuning.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/dreambooth_dog_prior_512.py",
    "../_base_/schedules/lora_500.py",
    "../_base_/dreambooth_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(
    student=dict(adapter=_base_.pop("adapter")),
    method=dict(timesteps=dict(steps=4)),
    dtype="bfloat16",
    sampling=dict(
        _delete_=True,
        scheduler=dict(type="EulerAncestralDiscreteScheduler", timestep_spacing="trailing"),
        num_inference_steps=4,
        guidance_scale=0.0,
        height=512,
        width=512,
    ),
)
train_dataloader = dict(dataset=dict(class_images=dict(weight=0)))  # the prior is what the student answers
