"""KOALA-700M: 783 M parameters; five transformer layers of ten and no mid block (Lee et al., 2024, arXiv:2312.04005)."""

_base_ = ["./koala_1b.py"]

model = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1, 2, 3, 4],
            "mid_block.attentions.0.transformer_blocks": None,
            "mid_block.attentions": [],
            "mid_block.resnets": [],
            "up_blocks.0.attentions.*.transformer_blocks": [0, 1, 2, 3, 4],
        }
    ),
    feature_pairs=dict(level=["*_blocks.*.attentions.*.transformer_blocks.*.attn1", "down_blocks.0", "up_blocks.2"]),
)
