"""PixArt-Sigma at 1024 x 1024 (Chen et al., 2024, arXiv:2403.04692) as the teacher of a full-size student.

Merge a cut to thin it. It predicts the noise, at timesteps drawn alike. Loss weights are our choice; features are compared
relative to the teacher's, because they grow from block to block.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="PixArtSigma", checkpoint="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"),
    student=dict(keep={}),
    feature_pairs=dict(level="layers", rule="next"),
    method=dict(type="DenoisingKD"),
    losses=dict(
        task=dict(type="TaskLoss"),
        output=dict(type="OutputKD"),
        feature=dict(type="FeatureKD", weight=0.1, normalize=True),
    ),
    dtype="bfloat16",
    gradient_checkpointing=True,
    sampling=dict(num_inference_steps=20, guidance_scale=4.5),
)
