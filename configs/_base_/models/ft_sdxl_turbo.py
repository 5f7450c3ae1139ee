"""SDXL-Turbo (Sauer et al., 2023, arXiv:2311.17042) to be fine-tuned, sampled in its own four steps at 512 x 512."""

model = dict(
    type="FineTuner",
    base=dict(type="StableDiffusionXL", checkpoint="stabilityai/sdxl-turbo", vae="madebyollin/sdxl-vae-fp16-fix"),
    losses=dict(task=dict(type="TaskLoss")),
    gradient_checkpointing=True,
    dtype="bfloat16",
    sampling=dict(
        scheduler=dict(type="EulerAncestralDiscreteScheduler", timestep_spacing="trailing"),
        num_inference_steps=4,
        guidance_scale=0.0,
        height=512,
        width=512,
    ),
)
