"""LCM-LoRA of the published Segmind Vega, for 2 to 8 steps: the kind of Segmind-VegaRT, 119 M parameters (model card).

These are the same layers as in the other LCM-LoRAs, with rank 128: that gives 119,562,240.
12 pictures x 1 GPU = 12 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/lcm_lora.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/lcm_lora_1k.py",
    "../_base_/lcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(
    teacher=dict(checkpoint="segmind/Segmind-Vega"),
    student=dict(adapter=dict(r=128, lora_alpha=128)),
    dtype="bfloat16",
)
train_dataloader = dict(batch_size=12)
default_hooks = dict(ema=None)
