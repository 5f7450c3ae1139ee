"""SSD-1B with weights of 4 bits: the released student, tuned beside SDXL on Pokemon-BLIP captions.

Groups of 32 input channels share a scale. Steps and batch are those of ssd_1b_distill_pokemon_blip.py; bits are our choice.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/ssd_1b.py",
    "../_base_/datasets/pokemon_blip_1024.py",
    "../_base_/schedules/adafactor_50e.py",
    "../_base_/default_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(student=dict(checkpoint="segmind/SSD-1B", quantize=dict(bits=4)), dtype="bfloat16")
default_hooks = dict(
    samples=dict(prompts=["yoda pokemon", "a cute dragon", "a green turtle with a shell", "a yellow mouse"])
)
