"""Segmind Vega's cut (Gupta et al., 2024) of the embedded SDXL layout: it keeps every ResNet of SSD-1B's cut, as Vega does.

SSD-1B's counterpart is down to one transformer layer everywhere, so here the attentions of the middle stage go.
"""

cut = dict(
    student=dict(
        keep={
            "down_blocks.1.attentions": [],
            "down_blocks.2.attentions.*.transformer_blocks": [0],
            "mid_block.attentions": [],
            "mid_block.resnets": [0],
            "up_blocks.0.attentions.*.transformer_blocks": [0],
            "up_blocks.1.attentions": [],
        }
    )
)
