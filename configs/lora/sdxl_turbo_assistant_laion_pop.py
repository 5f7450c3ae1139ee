"""An assistant of SDXL-Turbo: a LoRA that makes an ordinary denoiser of it, for sdxl_turbo_dreambooth_assisted_dog.py.

It is trained on LAION-POP at random timesteps. r 64, alpha 64 on the attention of the UNet. 8 pictures x 1 GPU = 8 pictures
an update, 1,000 updates. The settings are ours, and it was not run here; its like on shapes is measured.
"""

_base_ = [
    "../_base_/models/ft_sdxl_turbo.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/laion_pop_512.py",
    "../_base_/schedules/lcm_lora_1k.py",
    "../_base_/default_runtime.py",
]

model = dict(
    adapter=dict(_base_.pop("adapter"), r=64, lora_alpha=64),
    sampling=dict(scheduler="DPMSolverMultistepScheduler", num_inference_steps=25, guidance_scale=5.0),
)
