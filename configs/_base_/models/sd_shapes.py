"""The embedded SD-layout pipeline of 32x32 shapes (docs/results/shapes.md) as the teacher."""

_base_ = ["./sdxl_shapes.py"]

model = dict(teacher=dict(type="StableDiffusion", checkpoint="diffdistill::sd_shapes"))
