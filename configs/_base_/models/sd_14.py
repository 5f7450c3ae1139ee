"""Stable Diffusion 1.4 (Rombach et al., 2022, arXiv:2112.10752) as the teacher of a full-size student.

Merge a cut to thin it. Loss weights and feature pairs are those of BK-SDM (Kim et al., 2023, arXiv:2305.15798): the four
down and four up stages without the mid block, as in the authors' train script.
"""

model = dict(
    type="Distiller",
    teacher=dict(type="StableDiffusion", checkpoint="CompVis/stable-diffusion-v1-4"),
    student=dict(keep={}),
    feature_pairs=dict(level=["down_blocks.*", "up_blocks.*"], rule="same"),
    method=dict(type="DenoisingKD"),
    losses=dict(task=dict(type="TaskLoss"), output=dict(type="OutputKD"), feature=dict(type="FeatureKD")),
    gradient_checkpointing=True,
    sampling=dict(scheduler="PNDMScheduler", num_inference_steps=25, guidance_scale=7.5),
)
