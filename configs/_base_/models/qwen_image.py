"""Qwen-Image (Wu et al., 2025, arXiv:2508.02324) as the teacher of a full-size student; merge a cut to thin it.

Loss weights are our choice; features are compared relative to the teacher's, because they grow from block to block. Its
pipeline is guided where it has a negative prompt, even an empty one.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="QwenImage", checkpoint="Qwen/Qwen-Image"),
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
    sampling=dict(num_inference_steps=50, true_cfg_scale=4.0, negative_prompt=" "),
)
