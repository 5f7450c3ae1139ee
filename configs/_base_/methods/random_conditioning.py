"""Random conditioning (Kim et al., CVPR 2025, arXiv:2504.02011): other captions with probability p(t), no task loss.

The two other losses have weight 1, whatever the teacher's file says. The captions are others of the batch, or lines of a
file: `model.method.conditioning.captions`.
"""

method = dict(
    method=dict(conditioning=dict(type="RandomConditioning")),
    losses=dict(_delete_=True, output=dict(type="OutputKD"), feature=dict(type="FeatureKD")),
)
