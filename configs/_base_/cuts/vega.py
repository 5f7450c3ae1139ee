"""Segmind Vega: 745 M of SDXL's 2.57 B parameters (Gupta et al., 2024, arXiv:2401.02677).

All its layers are SSD-1B's first ones, so the keep list fits SDXL and SSD-1B alike as the teacher.
"""

cut = dict(
    student=dict(
        keep={
            "down_blocks.1.attentions.*.transformer_blocks": [0],
            "down_blocks.2.attentions.*.transformer_blocks": [0, 1],
            "mid_block.attentions": [],
            "mid_block.resnets": [0],
            "up_blocks.0.attentions.*.transformer_blocks": [0, 1],
            "up_blocks.1.attentions.*.transformer_blocks": [0],
        }
    )
)
