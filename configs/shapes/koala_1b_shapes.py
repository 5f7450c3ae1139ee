"""KOALA-1B's cut (Lee et al., 2024) on the SDXL layout: one layer a block, two transformer layers of three, the mid block.

Features: the self-attention of every transformer layer, and the output of the two stages that have none.
"""

_base_ = ["./small_sd_xl_shapes.py"]

model = dict(
    student=dict(
        keep={
            "*_blocks.*.attentions.*.transformer_blocks": None,
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1],
            "mid_block.resnets": None,
            "mid_block.attentions": None,
            "mid_block.attentions.0.transformer_blocks": [0, 1],
            "up_blocks.0.attentions.*.transformer_blocks": [0, 1],
        }
    ),
    feature_pairs=dict(
        level=[
            "*_blocks.*.attentions.*.transformer_blocks.*.attn1",
            "mid_block.attentions.*.transformer_blocks.*.attn1",
            "down_blocks.0",
            "up_blocks.2",
        ],
        rule="same",
    ),
)
