"""BK-SDM-Tiny: 323 M parameters, BK-SDM-Small without its innermost stage (Kim et al., 2023, arXiv:2305.15798, sec. 3.1).

Down stage 2 is the student's last and has lost the teacher's downsampler, so the authors compare its last attention instead.
"""

_base_ = ["./bk_sdm_small.py"]

model = dict(
    student=dict(keep={"down_blocks": [0, 1, 2], "up_blocks": [1, 2, 3]}),
    feature_pairs=dict(
        level=["down_blocks.[01]", "up_blocks.*"],
        pairs={"down_blocks.2.attentions.0.proj_out": "down_blocks.2.attentions.1.proj_out"},
    ),
)
