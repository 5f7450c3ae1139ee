"""BK-SDM-Base: one layer a block (Kim et al., 2023, arXiv:2305.15798, sec. 3.1); 579 M of SD 1.4's 860 M parameters.

The first ResNet and attention of every down stage, the first and last of every up stage. Segmind's SD-Small is the same cut.
"""

cut = dict(
    student=dict(
        keep={
            "down_blocks.*.resnets": [0],
            "down_blocks.*.attentions": [0],
            "up_blocks.*.resnets": [0, 2],
            "up_blocks.*.attentions": [0, 2],
        }
    )
)
