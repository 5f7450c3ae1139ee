"""SANA 1.6B (Xie et al., 2024, arXiv:2410.10629) as the teacher of a full-size student; merge a cut to thin it.

Loss weights are our choice; features are compared relative to the teacher's, because they grow from block to block.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="Sana", checkpoint="Efficient-Large-Model/Sana_1600M_1024px_diffusers"),
    student=dict(keep={}),
    feature_pairs=dict(level="layers", rule="next"),
    method=dict(type="DenoisingKD", timesteps=dict(type="LogitNormalTimesteps")),
    losses=dict(
        task=dict(type="TaskLoss"),
        output=dict(type="OutputKD"),
        feature=dict(type="FeatureKD", weight=0.1, normalize=True),
    ),
    dtype="bfloat16",
    gradient_checkpointing=True,
    sampling=dict(num_inference_steps=20, guidance_scale=4.5),
)
