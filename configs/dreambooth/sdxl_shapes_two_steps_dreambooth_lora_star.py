"""DreamBooth by LoRA on a two-step student as on any denoiser, at random timesteps, for comparison.

The star of sdxl_shapes_dreambooth_lora_star.py, validated in the student's two steps. Beside it stand
sdxl_shapes_two_steps_dreambooth_grid_star.py and sdxl_shapes_two_steps_dreambooth_assisted_star.py; see
docs/finetuning.md, "A student of few steps".
"""

_base_ = [
    "../_base_/models/ft_sdxl_shapes_two_steps.py",
    "../_base_/adapters/lora_star.py",
    "../_base_/datasets/dreambooth_star.py",
    "../_base_/schedules/star_300.py",
    "../_base_/star_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"))
