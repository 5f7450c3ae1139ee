"""Progressive shrinking on the SDXL layout: embedded teacher -> SSD-1B's cut, which is then the teacher of Vega's cut."""

_base_ = ["./vega_distill_from_sdxl_shapes.py"]

stages = [
    dict(
        name="ssd_1b",
        model=dict(
            student=dict(
                keep={
                    "_delete_": True,
                    "*_blocks.*.attentions.*.transformer_blocks": [0],
                    "mid_block.attentions": [],
                    "mid_block.resnets": [0],
                }
            )
        ),
    ),
    dict(name="vega", model=dict(teacher=dict(denoiser="previous"))),
]
