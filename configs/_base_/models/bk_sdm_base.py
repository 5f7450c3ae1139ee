"""BK-SDM-Base: 579 M of SD 1.4's 860 M parameters (Kim et al., 2023, arXiv:2305.15798, sec. 3.1).

The first ResNet and attention of every down stage, the first and last of every up stage. Features are compared at the end of
the four down and four up stages, without the mid block (the authors' train script).
"""

_base_ = ["./sd_14.py"]

model = dict(
    student=dict(
        keep={
            "down_blocks.*.resnets": [0],
            "down_blocks.*.attentions": [0],
            "up_blocks.*.resnets": [0, 2],
            "up_blocks.*.attentions": [0, 2],
        }
    )
)
