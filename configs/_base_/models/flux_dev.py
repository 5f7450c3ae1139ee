"""FLUX.1 dev (Black Forest Labs, 2024) as the teacher of a full-size student; merge a cut to thin it.

It is told the guidance scale, so a picture takes one call a step. Loss weights are our choice; features are compared
relative to the teacher's, because they grow from block to block.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="Flux", checkpoint="black-forest-labs/FLUX.1-dev"),
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
    sampling=dict(num_inference_steps=28, guidance_scale=3.5),
)
