"""The embedded SDXL-layout pipeline of 32x32 shapes (docs/results/shapes.md) to be fine-tuned.

A student of your own in its place: `model.base.denoiser=work_dirs/<run>/unet`.
"""

model = dict(
    type="FineTuner",
    base=dict(type="StableDiffusionXL", checkpoint="diffdistill::sdxl_shapes"),
    losses=dict(task=dict(type="TaskLoss")),
    sampling=dict(scheduler="DPMSolverMultistepScheduler", num_inference_steps=12, guidance_scale=3.0),
)
