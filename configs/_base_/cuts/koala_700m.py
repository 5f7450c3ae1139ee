"""KOALA-700M: 783 M of SDXL's 2.57 B parameters (Lee et al., 2024, arXiv:2312.04005).

BK-SDM-Base's one layer a block without the mid block, and the first five transformer layers of ten. Features as in KOALA-1B.
"""

_base_ = ["./bk_sdm_base.py"]

cut = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1, 2, 3, 4],
            "mid_block.resnets": [],
            "mid_block.attentions": [],
            "up_blocks.0.attentions.*.transformer_blocks": [0, 1, 2, 3, 4],
        }
    ),
    feature_pairs=dict(
        level=["*_blocks.*.attentions.*.transformer_blocks.*.attn1", "down_blocks.0", "up_blocks.2"], rule="same"
    ),
)
