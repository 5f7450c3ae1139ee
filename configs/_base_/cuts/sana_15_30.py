"""30 of the 60 blocks of SANA-1.5 4.8B: 2.38 of 4.72 B parameters, a size of its paper (Xie et al., 2025, arXiv:2501.18427).

They are spread evenly. The authors chose by how much each changes its input, and have not published which stayed.
"""

# fmt: off
cut = dict(
    student=dict(
        keep={
            "transformer_blocks": [
                0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59,
            ]
        }
    )
)
# fmt: on
