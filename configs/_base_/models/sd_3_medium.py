"""Stable Diffusion 3 medium (Esser et al., 2024, arXiv:2403.03206) as the teacher of a full-size student.

Merge a cut to thin it. Timesteps are those of the paper, sec. 3.1. Loss weights are our choice; features are compared
relative to the teacher's, because they grow from block to block.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="StableDiffusion3", checkpoint="stabilityai/stable-diffusion-3-medium-diffusers"),
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
    sampling=dict(num_inference_steps=28, guidance_scale=7.0),
)
