"""DreamBooth by LoRA on Segmind's small-sd: five photographs of one dog at 512 x 512, with the settings of SSD-1B's run.

2 pictures x 1 GPU = 2 pictures an update, 500 updates. Leaves `step499` for `pipe.load_lora_weights`.
"""

_base_ = [
    "../_base_/models/ft_sd_small.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/dreambooth_dog_512.py",
    "../_base_/schedules/lora_500.py",
    "../_base_/dreambooth_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"))
