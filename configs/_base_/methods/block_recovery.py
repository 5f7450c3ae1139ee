"""PPCL's recovery of a cut (Ma et al., 2025, arXiv:2511.16156): each block gets the teacher's input, and its later output.

Only blocks before a gap are trained. Their features are compared token by token, each divided by its length.
"""

method = dict(
    method=dict(type="BlockRecovery"),
    losses=dict(task=None, output=None, feature=dict(type="FeatureKD", weight=1.0, normalize="tokens")),
)
