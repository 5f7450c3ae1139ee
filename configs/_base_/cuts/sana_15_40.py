"""40 of the 60 blocks of SANA-1.5 4.8B: 3.16 of 4.72 B parameters, a size of its paper (Xie et al., 2025, arXiv:2501.18427).

Every third block goes. The authors chose by how much each changes its input, and have not published which stayed.
"""

# fmt: off
cut = dict(
    student=dict(
        keep={
            "transformer_blocks": [
                0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24, 26, 27, 29,
                30, 32, 33, 35, 36, 38, 39, 41, 42, 44, 45, 47, 48, 50, 51, 53, 54, 56, 57, 59,
            ]
        }
    )
)
# fmt: on
