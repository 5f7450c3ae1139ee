"""Latent consistency distillation (Luo et al., 2023, arXiv:2310.04378); the scale reaches the student by an embedding."""

_base_ = ["./latent_consistency.py"]

method = dict(student=dict(guidance_embedding=256))
