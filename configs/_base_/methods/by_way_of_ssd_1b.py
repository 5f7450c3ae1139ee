"""Progressive shrinking (Gupta et al., 2024, arXiv:2401.02677): the teacher -> SSD-1B, which is then the teacher of the cut.

For a cut whose layers are all SSD-1B's, such as Vega's.
"""

_base_ = ["../cuts/ssd_1b.py"]

stages = [
    dict(name="ssd_1b", model=dict(student=dict(keep=dict(_base_.pop("cut").student.keep, _delete_=True)))),
    dict(name="vega", model=dict(teacher=dict(denoiser="previous"))),
]
