"""BK-SDM-Base's cut on SDXL (Kim et al., 2023, arXiv:2305.15798) on Pokemon-BLIP captions: 1.72 B of 2.57 B parameters.

Features are compared after every stage and the mid block, as in Segmind's SD-Small; loss weights are BK-SDM's.
2 pictures x 1 GPU = 2 pictures an update, bf16, gradient checkpointing: the settings of SSD-1B on the same pictures.
"""

_base_ = [
    "../_base_/models/sdxl.py",
    "../_base_/cuts/bk_sdm_base.py",
    "../_base_/datasets/pokemon_blip_1024.py",
    "../_base_/schedules/adafactor_50e.py",
    "../_base_/pokemon_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(
    feature_pairs=dict(level="blocks"),
    losses=dict(output=dict(weight=1.0), feature=dict(weight=1.0)),
    dtype="bfloat16",
)
