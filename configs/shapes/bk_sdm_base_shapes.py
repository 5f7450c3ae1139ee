"""BK-SDM-Base's cut (Kim et al., 2023) on the SD layout: one layer a block; features compared by stage, without the mid."""

_base_ = [
    "../_base_/models/sd_shapes.py",
    "../_base_/cuts/bk_sdm_base.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(feature_pairs=dict(level=["down_blocks.*", "up_blocks.*"], rule="same"))
