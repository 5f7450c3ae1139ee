"""The embedded SD-layout pipeline of 32x32 shapes (docs/results/shapes.md) to be fine-tuned."""

_base_ = ["./ft_sdxl_shapes.py"]

model = dict(base=dict(type="StableDiffusion", checkpoint="diffdistill::sd_shapes"))
