"""SSD-1B distilled from SDXL on Pokemon-BLIP captions, setting 2: first weights of segmind/SSD-1B.

Sizes and losses: Gupta et al., 2024, arXiv:2401.02677. 2 pictures x 1 GPU = 2 a step, bf16, gradient checkpointing.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/ssd_1b.py",
    "../_base_/datasets/pokemon_blip_1024.py",
    "../_base_/schedules/adafactor_50e.py",
    "../_base_/default_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(student=dict(checkpoint="segmind/SSD-1B"), dtype="bfloat16")
default_hooks = dict(
    samples=dict(prompts=["yoda pokemon", "a cute dragon", "a green turtle with a shell", "a yellow mouse"])
)
