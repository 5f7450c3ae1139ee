"""SSD-1B's cut (Gupta et al., 2024) of the embedded SDXL layout, whose transformers have three layers at most."""

cut = dict(
    student=dict(
        keep={
            "*_blocks.*.attentions.*.transformer_blocks": [0],
            "mid_block.attentions": [],
            "mid_block.resnets": [0],
        }
    )
)
