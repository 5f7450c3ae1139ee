"""SANA-1.5 4.8B, 60 layers (Xie et al., 2025, arXiv:2501.18427), as the teacher of a full-size student."""

_base_ = ["./transformer.py"]

model = dict(
    teacher=dict(type="Sana", checkpoint="Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers"),
    sampling=dict(num_inference_steps=20, guidance_scale=4.5),
)
