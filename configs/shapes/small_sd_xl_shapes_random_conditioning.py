"""The quick start with random conditioning (Kim et al., CVPR 2025): captions swapped within the batch, no task loss."""

_base_ = ["./small_sd_xl_shapes.py"]

model = dict(
    method=dict(conditioning=dict(type="RandomConditioning")),
    losses=dict(_delete_=True, output=dict(type="OutputKD"), feature=dict(type="FeatureKD")),
)
