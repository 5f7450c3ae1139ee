"""KOALA-700M's cut (Lee et al., 2024) on the SDXL layout: one transformer layer of three in the deep stages, no mid."""

_base_ = ["./koala_1b_shapes.py"]

model = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0],
            "mid_block.resnets": [],
            "mid_block.attentions": [],
            "mid_block.attentions.0.transformer_blocks": None,
            "up_blocks.0.attentions.*.transformer_blocks": [0],
        }
    ),
    feature_pairs=dict(level=["*_blocks.*.attentions.*.transformer_blocks.*.attn1", "down_blocks.0", "up_blocks.2"]),
)
