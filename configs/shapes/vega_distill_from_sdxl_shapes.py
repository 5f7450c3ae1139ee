"""Segmind Vega's cut (Gupta et al., 2024) on the SDXL layout: SSD-1B's, and its transformers thinned once more.

Like Vega it keeps every ResNet. SSD-1B's counterpart is down to one transformer layer everywhere, so here the attentions of
the middle stage go.
"""

_base_ = ["./ssd_1b_distill_from_sdxl_shapes.py"]

model = dict(
    student=dict(
        keep={
            "*_blocks.*.attentions.*.transformer_blocks": None,
            "down_blocks.1.attentions": [],
            "down_blocks.2.attentions.*.transformer_blocks": [0],
            "up_blocks.0.attentions.*.transformer_blocks": [0],
            "up_blocks.1.attentions": [],
        }
    )
)
