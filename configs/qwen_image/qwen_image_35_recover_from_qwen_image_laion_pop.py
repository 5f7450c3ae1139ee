"""Qwen-Image in 35 blocks, recovered as in PPCL (Ma et al., 2025, arXiv:2511.16156): 11.93 B parameters, 13 blocks trained.

1 picture x 8 GPUs x 4 accumulation = 32 pictures an update; data, batch and the number of updates are our choice.
"""

_base_ = [
    "../_base_/models/qwen_image.py",
    "../_base_/cuts/qwen_image_35.py",
    "../_base_/methods/block_recovery.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/ppcl_10k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

train_dataloader = dict(batch_size=1)
