"""An assistant: a LoRA that makes an ordinary denoiser of the two-step student of the embedded SDXL-layout pipeline.

It is trained on drawn shapes at random timesteps, and sampled as an ordinary denoiser is, in 12 steps. r 16, alpha 16. 300
updates of 16 pictures. For sdxl_shapes_two_steps_dreambooth_assisted_star.py, and any other subject.
"""

_base_ = [
    "../_base_/models/ft_sdxl_shapes_two_steps.py",
    "../_base_/adapters/lora_star.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/star_300.py",
    "../_base_/shapes_runtime.py",
]

model = dict(
    adapter=_base_.pop("adapter"),
    sampling=dict(scheduler="DPMSolverMultistepScheduler", num_inference_steps=12, guidance_scale=3.0),
)
train_dataloader = dict(batch_size=16)
default_hooks = dict(samples=dict(interval=300))
