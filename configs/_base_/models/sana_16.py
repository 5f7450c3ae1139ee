"""SANA 1.6B (Xie et al., 2024, arXiv:2410.10629) as the teacher of a full-size student; merge a cut to thin it."""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="Sana", checkpoint="Efficient-Large-Model/Sana_1600M_1024px_diffusers"),
    sampling=dict(num_inference_steps=20, guidance_scale=4.5),
)
