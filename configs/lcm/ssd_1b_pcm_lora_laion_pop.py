"""PCM of the published SSD-1B in 4 phases, for 4 steps (Wang et al., 2024, arXiv:2405.18407): 105 M parameters, rank 64.

The settings are those of SDXL. 10 pictures x 1 GPU = 10 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/pcm_lora.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/pcm_lora_20k.py",
    "../_base_/pcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(teacher=dict(checkpoint="segmind/SSD-1B"), dtype="bfloat16")
train_dataloader = dict(batch_size=10)
