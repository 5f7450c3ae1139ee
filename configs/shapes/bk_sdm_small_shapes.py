"""BK-SDM-Small's cut (Kim et al., 2023) on the SD layout: one layer a block, no mid block; features compared by stage."""

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
            "mid_block.resnets": [],
            "mid_block.attentions": [],
            "up_blocks.*.resnets": [0, 2],
            "up_blocks.*.attentions": [0, 2],
        }
    ),
    feature_pairs=dict(level=["down_blocks.*", "up_blocks.*"]),
)
