"""DreamBooth of the whole denoiser of the embedded SDXL-layout pipeline: five pictures of a star, a shape it has never seen.

As sdxl_shapes_dreambooth_lora_star.py, but every weight is trained, at a sixth of the learning rate.
"""

_base_ = ["./sdxl_shapes_dreambooth_lora_star.py"]

model = dict(adapter=None)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
