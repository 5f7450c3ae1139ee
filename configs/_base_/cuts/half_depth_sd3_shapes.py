"""Half the depth of the embedded teacher of the SD3 class: blocks 0, 2 and 5, the last as it alone returns no text."""

cut = dict(student=dict(keep={"transformer_blocks": [0, 2, 5]}))
