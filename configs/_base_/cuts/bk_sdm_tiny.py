"""BK-SDM-Tiny: BK-SDM-Base without mid block and innermost stage (Kim et al., 2023, arXiv:2305.15798, sec. 3.1); 323 M.

Down stage 2 is the student's last and has lost the teacher's downsampler, so the authors compare its last attention instead.
Segmind's SD-Tiny is the same cut with other feature pairs.
"""

_base_ = ["./bk_sdm_base.py"]

cut = dict(
    student=dict(
        keep={
            "down_blocks": [0, 1, 2],
            "mid_block.resnets": [],
            "mid_block.attentions": [],
            "up_blocks": [1, 2, 3],
        }
    ),
    feature_pairs=dict(
        level=["down_blocks.[01]", "up_blocks.*"],
        pairs={"down_blocks.2.attentions.0.proj_out": "down_blocks.2.attentions.1.proj_out"},
    ),
)
