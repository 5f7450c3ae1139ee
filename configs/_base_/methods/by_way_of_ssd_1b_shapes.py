"""Progressive shrinking on the SDXL layout: the teacher -> SSD-1B's cut, which is then the teacher of Vega's cut."""

_base_ = ["../cuts/ssd_1b_shapes.py"]

stages = [
    dict(name="ssd_1b", model=dict(student=dict(keep=dict(_base_.pop("cut").student.keep, _delete_=True)))),
    dict(name="vega", model=dict(teacher=dict(denoiser="previous"))),
]
