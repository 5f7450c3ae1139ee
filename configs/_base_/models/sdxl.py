"""SDXL (Podell et al., 2023, arXiv:2307.01952) as the teacher of a full-size student; merge a cut to thin it.

Loss weights are those of SSD-1B (Gupta et al., 2024, arXiv:2401.02677).
"""

model = dict(
    type="Distiller",
    teacher=dict(
        type="StableDiffusionXL",
        checkpoint="stabilityai/stable-diffusion-xl-base-1.0",
        vae="madebyollin/sdxl-vae-fp16-fix",
    ),
    student=dict(keep={}),
    feature_pairs=dict(level="layers", rule="next"),
    method=dict(type="DenoisingKD"),
    losses=dict(
        task=dict(type="TaskLoss"),
        output=dict(type="OutputKD", weight=0.5),
        feature=dict(type="FeatureKD", weight=0.5),
    ),
    gradient_checkpointing=True,
    sampling=dict(num_inference_steps=25, guidance_scale=7.5),
)
