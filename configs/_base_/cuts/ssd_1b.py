"""SSD-1B: 1.33 B of SDXL's 2.57 B parameters (Gupta et al., 2024, arXiv:2401.02677)."""

cut = dict(
    student=dict(
        keep={
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1, 2, 3],
            "mid_block.attentions": [],
            "mid_block.resnets": [0],
            "up_blocks.0.attentions.[01].transformer_blocks": [0, 1, 2, 3],
            "up_blocks.1.attentions.[12].transformer_blocks": [0],
        }
    )
)
