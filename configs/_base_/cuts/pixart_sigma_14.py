"""14 of the 28 blocks of PixArt-Sigma, spread evenly: half its depth. Our choice, of no paper."""

cut = dict(student=dict(keep={"transformer_blocks": [0, 2, 4, 6, 8, 10, 12, 15, 17, 19, 21, 23, 25, 27]}))
