"""The quick start's cut of the SDXL layout: BK-SDM-Base's one layer a block, no mid block, one transformer layer.

1.46 M of the 3.97 M parameters of the embedded SDXL-layout pipeline.
"""

_base_ = ["./bk_sdm_base.py"]

cut = dict(
    student=dict(
        keep={
            "mid_block.resnets": [],
            "mid_block.attentions": [],
            "*_blocks.*.attentions.*.transformer_blocks": [0],
        }
    )
)
