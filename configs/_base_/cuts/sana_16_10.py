"""10 of the 20 blocks of SANA 1.6B or SANA-1.5 1.6B, spread evenly: half its depth. Our choice, of no paper."""

cut = dict(student=dict(keep={"transformer_blocks": [0, 2, 4, 6, 8, 11, 13, 15, 17, 19]}))
