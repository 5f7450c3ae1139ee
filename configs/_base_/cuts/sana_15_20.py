"""20 of the 60 blocks of SANA-1.5 4.8B: 1.60 of 4.72 B parameters, a size of its paper (Xie et al., 2025, arXiv:2501.18427).

They are spread evenly. The authors chose by how much each changes its input, and have not published which stayed.
"""

cut = dict(
    student=dict(keep={"transformer_blocks": [0, 3, 6, 9, 12, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 47, 50, 53, 56, 59]})
)
