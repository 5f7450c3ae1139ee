"""DreamBooth by LoRA on SSD-1B: five photographs of one dog, "a photo of sks dog" (DiffEngine's config of this name).

r 8, alpha 8 on the attention of the UNet. 2 pictures x 1 GPU = 2 pictures an update, 500 updates. Leaves `step499`:
`pipe.load_lora_weights("work_dirs/ssd_1b_dreambooth_lora_dog/step499")`.
"""

_base_ = [
    "../_base_/models/ft_ssd_1b.py",
    "../_base_/adapters/lora_attention.py",
    "../_base_/datasets/dreambooth_dog_1024.py",
    "../_base_/schedules/lora_500.py",
    "../_base_/dreambooth_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"))
