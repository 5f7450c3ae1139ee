"""SDXL-Turbo (Sauer et al., 2023, arXiv:2311.17042) as the teacher of a full-size student; otherwise as sdxl.py."""

_base_ = ["./sdxl.py"]

model = dict(teacher=dict(checkpoint="stabilityai/sdxl-turbo"))
