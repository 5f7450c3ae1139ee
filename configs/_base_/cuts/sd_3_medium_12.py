"""12 of the 24 blocks of Stable Diffusion 3 medium or 3.5 medium, spread evenly: half its depth. Our choice, of no paper.

The last block must stay: it alone leaves the text behind, so no other can take its place.
"""

cut = dict(student=dict(keep={"transformer_blocks": [0, 2, 4, 6, 8, 10, 13, 15, 17, 19, 21, 23]}))
