"""PCM of SDXL in 4 phases, for 4 steps (Wang et al., 2024, arXiv:2405.18407): an adapter of 197 M parameters, rank 64.

As the authors' script for SDXL trains it, without its adversarial loss: 20,000 updates of AdamW 2e-6, w in [6, 7] (scales in
[7, 8]), a grid of 40 times, pseudo-Huber with c = 0.001. 10 pictures x 1 GPU = 10 pictures an update.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/methods/pcm_lora.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/pcm_lora_20k.py",
    "../_base_/pcm_runtime.py",
]
_base_.model.merge(_base_.pop("method"))

model = dict(dtype="bfloat16")
train_dataloader = dict(batch_size=10)
