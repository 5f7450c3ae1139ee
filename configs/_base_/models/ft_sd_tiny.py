"""Segmind SD-Tiny to be fine-tuned: the released `segmind/tiny-sd`, BK-SDM-Tiny's cut of Realistic Vision 4.0.

A student of your own in its place: `model.base.denoiser=work_dirs/<run>/unet`.
"""

model = dict(
    type="FineTuner",
    base=dict(type="StableDiffusion", checkpoint="segmind/tiny-sd"),
    losses=dict(task=dict(type="TaskLoss")),
    dtype="bfloat16",
    sampling=dict(num_inference_steps=25, guidance_scale=7.5),
)
