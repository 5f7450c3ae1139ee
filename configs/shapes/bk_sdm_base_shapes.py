"""BK-SDM-Base's cut (Kim et al., 2023) on the SD layout: one layer a block; features compared by stage, without the mid."""

_base_ = [
    "../_base_/models/sd_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]

model = dict(
    student=dict(
        keep={
            "down_blocks.*.resnets": [0],
            "down_blocks.*.attentions": [0],
            "up_blocks.*.resnets": [0, 2],
            "up_blocks.*.attentions": [0, 2],
        }
    ),
    feature_pairs=dict(level=["down_blocks.*", "up_blocks.*"], rule="same"),
)
