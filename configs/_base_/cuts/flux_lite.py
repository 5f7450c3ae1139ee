"""The depth of Freepik's flux.1-lite-8B: 8 of FLUX.1's 19 double blocks, all 38 single ones, 8.16 of 11.90 B parameters.

Freepik looked at how much each block changes its input (model card), and has not published which are gone. That they are 5
to 15 is a user's claim. The number of blocks and of parameters is that of the published config.
"""

cut = dict(student=dict(keep={"transformer_blocks": [0, 1, 2, 3, 4, 16, 17, 18]}))
