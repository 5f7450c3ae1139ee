"""SANA-1.5 4.8B, 60 layers (Xie et al., 2025, arXiv:2501.18427), as the teacher of a full-size student; as sana_16.py."""

_base_ = ["./sana_16.py"]

model = dict(teacher=dict(checkpoint="Efficient-Large-Model/SANA1.5_4.8B_1024px_diffusers"))
