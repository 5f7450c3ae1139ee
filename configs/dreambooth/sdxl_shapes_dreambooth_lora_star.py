"""DreamBooth by LoRA on the embedded SDXL-layout pipeline: five pictures of a star, a shape that it has never seen.

r 16, alpha 16. 4 pairs x 1 = 4 instance and 4 class pictures an update, 300 updates. The captions of the five pictures
name their colours, "a large red s on a white background at the left": of a prompt as short as "a large s" the embedded text
encoders, which have seen whole captions alone, make something that no other caption shares. Figures:
docs/results/dreambooth.md.
"""

_base_ = [
    "../_base_/models/ft_sdxl_shapes.py",
    "../_base_/adapters/lora_star.py",
    "../_base_/datasets/dreambooth_star.py",
    "../_base_/schedules/star_300.py",
    "../_base_/star_runtime.py",
]

model = dict(adapter=_base_.pop("adapter"))
