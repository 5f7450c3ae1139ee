"""The embedded SDXL-layout pipeline of 32x32 shapes (docs/results/shapes.md) as the teacher.

Features are compared relative to the teacher's power: their plain sum over pairs is hundreds of times the other losses, and
the student learns less.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="StableDiffusionXL", checkpoint="diffdistill::sdxl_shapes"),
    student=dict(keep={}),
    feature_pairs=dict(level="layers", rule="next"),
    method=dict(type="DenoisingKD"),
    losses=dict(task=dict(type="TaskLoss"), output=dict(type="OutputKD"), feature=dict(type="FeatureKD", normalize=True)),
    sampling=dict(scheduler="DPMSolverMultistepScheduler", num_inference_steps=12, guidance_scale=3.0),
)
