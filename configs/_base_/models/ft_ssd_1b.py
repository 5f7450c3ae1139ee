"""SSD-1B (Gupta et al., 2024, arXiv:2401.02677) to be fine-tuned: `segmind/SSD-1B`, with a VAE that fp16 can hold."""

model = dict(
    type="FineTuner",
    base=dict(type="StableDiffusionXL", checkpoint="segmind/SSD-1B", vae="madebyollin/sdxl-vae-fp16-fix"),
    losses=dict(task=dict(type="TaskLoss")),
    gradient_checkpointing=True,
    dtype="bfloat16",
    sampling=dict(num_inference_steps=25, guidance_scale=7.5),
)
