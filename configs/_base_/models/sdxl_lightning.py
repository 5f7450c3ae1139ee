"""SDXL-Lightning (Lin et al., 2024, arXiv:2402.13929) as the teacher of a full-size student; otherwise as sdxl.py.

The hub's repository is a UNet without a pipeline around it: configs/koala/README.md says how to assemble one.
"""

_base_ = ["./sdxl.py"]

model = dict(teacher=dict(checkpoint="ByteDance/SDXL-Lightning"))
