"""Trains the embedded SD-layout teacher; see sdxl_shapes_teacher.py."""

_base_ = ["./sdxl_shapes_teacher.py"]

model = dict(teacher=dict(type="StableDiffusion", checkpoint="work_dirs/shapes_parts/sd"))
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
