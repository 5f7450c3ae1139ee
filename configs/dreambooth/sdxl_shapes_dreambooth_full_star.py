"""DreamBooth of the whole denoiser of the embedded SDXL-layout pipeline: five pictures of a star, a shape it has never seen.

As sdxl_shapes_dreambooth_lora_star.py, but every weight is trained, at a sixth of the learning rate.
"""

_base_ = [
    "../_base_/models/ft_sdxl_shapes.py",
    "../_base_/datasets/dreambooth_star.py",
    "../_base_/schedules/star_300.py",
    "../_base_/star_runtime.py",
]

optim_wrapper = dict(optimizer=dict(lr=5e-4))
