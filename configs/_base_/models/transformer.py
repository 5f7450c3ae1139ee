"""What all pipelines around a transformer with flow matching share as teachers of a full-size student.

Loss weights are our choice; features are compared relative to the teacher's, because they grow from block to block.
"""

model = dict(
    type="Distiller",
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
)
