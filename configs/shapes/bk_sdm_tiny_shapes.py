"""BK-SDM-Tiny's cut (Kim et al., 2023) on the SD layout: BK-SDM-Small without its innermost stage.

The student's last down stage has lost the teacher's downsampler, so its last attention is compared instead, as the authors
do. SD 1.x has the same width on both sides of this cut, the SD layout 96 and 64: the tensors that meet it start from random
values.
"""

_base_ = [
    "../_base_/models/sd_shapes.py",
    "../_base_/cuts/bk_sdm_tiny.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))

model = dict(
    student=dict(
        keep={"down_blocks": [0, 1], "up_blocks": [1, 2]},
        fresh=[
            "up_blocks.0.resnets.0.norm1.*",
            "up_blocks.0.resnets.0.conv1.weight",
            "up_blocks.0.resnets.0.conv_shortcut.weight",
        ],
    ),
    feature_pairs=dict(
        _delete_=True,
        level=["down_blocks.0", "up_blocks.*"],
        rule="same",
        pairs={"down_blocks.1.attentions.0.proj_out": "down_blocks.1.attentions.1.proj_out"},
    ),
)
