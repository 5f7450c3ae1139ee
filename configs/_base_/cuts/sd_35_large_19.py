"""19 of the 38 blocks of Stable Diffusion 3.5 large, spread evenly: half its depth. Our choice, of no paper.

The last block must stay: it alone leaves the text behind, so no other can take its place.
"""

cut = dict(
    student=dict(keep={"transformer_blocks": [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 21, 23, 25, 27, 29, 31, 33, 35, 37]})
)
