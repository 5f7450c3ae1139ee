"""The embedded pipeline of the SD3 class of 32x32 shapes (docs/results/shapes_dit.md) as the teacher; flow matching.

Without T5, one token of zeros stands in its place (the default of 256 would be four times the picture's tokens).
"""

model = dict(
    type="Distiller",
    teacher=dict(type="StableDiffusion3", checkpoint="diffdistill::sd3_shapes", max_sequence_length=1),
    student=dict(keep={}),
    feature_pairs=dict(level=["transformer_blocks.*", "transformer_blocks.*:text"], rule="next"),
    method=dict(type="DenoisingKD", timesteps=dict(type="LogitNormalTimesteps")),
    losses=dict(
        task=dict(type="TaskLoss"),
        output=dict(type="OutputKD"),
        feature=dict(type="FeatureKD", weight=3.0, normalize=True),
    ),
    sampling=dict(num_inference_steps=16, guidance_scale=3.0),
)
