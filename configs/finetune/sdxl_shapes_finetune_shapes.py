"""Goes on training the embedded SDXL-layout pipeline on drawn shapes, the whole denoiser without a teacher.

Made for a student that has been distilled: `model.base.denoiser=work_dirs/small_sd_xl_shapes/unet`. 100 steps of 32.
"""

_base_ = [
    "../_base_/models/ft_sdxl_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]

optim_wrapper = dict(optimizer=dict(lr=3e-4))
