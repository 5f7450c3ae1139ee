"""DreamBooth by LoRA on a two-step student beside an assistant, at random timesteps; the assistant is then taken out.

`mim train diffdistill sdxl_shapes_two_steps_assistant.py` makes the assistant, once for all subjects.
"""

_base_ = [
    "../_base_/models/ft_sdxl_shapes_two_steps.py",
    "../_base_/adapters/lora_star.py",
    "../_base_/datasets/dreambooth_star.py",
    "../_base_/schedules/star_300.py",
    "../_base_/star_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"), assistant="work_dirs/sdxl_shapes_two_steps_assistant/step299")
