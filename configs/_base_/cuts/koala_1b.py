"""KOALA-1B: 1.16 B of SDXL's 2.57 B parameters (Lee et al., 2024, arXiv:2312.04005).

BK-SDM-Base's one layer a block, and the first six transformer layers of ten. Features: the self-attention of every
transformer layer that is left, which are the teacher's earliest, and the output of the two stages that have no transformer.
"""

_base_ = ["./bk_sdm_base.py"]

cut = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1, 2, 3, 4, 5],
            "mid_block.attentions.0.transformer_blocks": [0, 1, 2, 3, 4, 5],
            "up_blocks.0.attentions.*.transformer_blocks": [0, 1, 2, 3, 4, 5],
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
