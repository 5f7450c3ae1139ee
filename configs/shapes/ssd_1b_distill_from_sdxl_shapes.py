"""SSD-1B's cut (Gupta et al., 2024) on the SDXL layout: shallower transformers, no attention in the mid block."""

_base_ = ["./small_sd_xl_shapes.py"]

model = dict(
    student=dict(
        keep={
            "_delete_": True,
            "*_blocks.*.attentions.*.transformer_blocks": [0],
            "mid_block.attentions": [],
            "mid_block.resnets": [0],
        }
    )
)
