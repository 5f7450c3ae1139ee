"""KOALA-1B's cut (Lee et al., 2024) on the SDXL layout: one layer a block, two transformer layers of three, the mid block.

Features: the self-attention of every transformer layer, and the output of the two stages that have none.
"""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/koala_1b.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1],
            "mid_block.attentions.0.transformer_blocks": [0, 1],
            "up_blocks.0.attentions.*.transformer_blocks": [0, 1],
        }
    )
)
