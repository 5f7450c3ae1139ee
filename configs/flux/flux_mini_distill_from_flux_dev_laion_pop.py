"""flux-mini from FLUX.1 dev, on LAION-POP at 1024 x 1024: 3.18 B parameters.

Blocks, losses and schedule are those of TencentARC's second stage (github.com/TencentARC/FluxKits), without the 90K updates
at 512 x 512 before it; their pictures were drawn by FLUX.1. 1 picture x 8 GPUs = 8 an update; theirs is unpublished.
"""

_base_ = [
    "../_base_/models/flux_dev.py",
    "../_base_/cuts/flux_mini.py",
    "../_base_/methods/fluxkits.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/schedules/flux_mini_90k.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
_base_.model.merge(_base_.pop("method"))

train_dataloader = dict(batch_size=1)
