"""The depth of flux.1-lite-8B in 4 steps: repaired, and then TDM with FLUX.1 dev as teacher and fake score.

1 picture x 8 GPUs x 4 accumulation = 32 pictures an update. The student is told the guidance scale, as its teacher is.
"""

_base_ = [
    "../_base_/models/flux_dev.py",
    "../_base_/cuts/flux_lite.py",
    "../_base_/methods/tdm_4_steps.py",
    "../_base_/datasets/laion_pop_1024.py",
    "../_base_/transformer_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

train_dataloader = dict(batch_size=1)
repaired, matched = _base_.stages
told = dict(matched["model"], method=dict(matched["model"]["method"], guidance_scale=[2.0, 5.0]))
stages = [repaired, dict(matched, model=told)]
del repaired, matched, told
