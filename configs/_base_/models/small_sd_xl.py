"""BK-SDM-Base's cut on SDXL: 1.72 B of 2.57 B parameters, one layer a block (Kim et al., 2023, arXiv:2305.15798, sec. 3.1).

Features are compared after every stage and the mid block, as in Segmind's SD-Small; loss weights are BK-SDM's.
"""

_base_ = ["./sdxl.py"]

model = dict(
    student=dict(
        keep={
            "down_blocks.*.resnets": [0],
            "down_blocks.*.attentions": [0],
            "up_blocks.*.resnets": [0, 2],
            "up_blocks.*.attentions": [0, 2],
        }
    ),
    feature_pairs=dict(level="blocks"),
    losses=dict(output=dict(weight=1.0), feature=dict(weight=1.0)),
)
