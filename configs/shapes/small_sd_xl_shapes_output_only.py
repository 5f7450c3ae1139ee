"""The quick start without feature pairs: task and output losses."""

_base_ = ["./small_sd_xl_shapes.py"]
model = dict(losses=dict(feature=None))
