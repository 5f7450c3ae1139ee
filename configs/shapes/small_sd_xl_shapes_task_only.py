"""The quick start without a teacher: what the same steps on the data alone give."""

_base_ = ["./small_sd_xl_shapes.py"]
model = dict(losses=dict(output=None, feature=None))
