"""PixArt-Sigma at 1024 x 1024 (Chen et al., 2024, arXiv:2403.04692) as the teacher of a full-size student.

Merge a cut to thin it. It predicts the noise, at timesteps drawn alike.
"""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="PixArtSigma", checkpoint="PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"),
    method=dict(timesteps=None),
    sampling=dict(num_inference_steps=20, guidance_scale=4.5),
)
