"""Progressive shrinking on the SDXL layout: embedded teacher -> SSD-1B's cut, which is then the teacher of Vega's cut."""

_base_ = [
    "../_base_/models/sdxl_shapes.py",
    "../_base_/cuts/vega_shapes.py",
    "../_base_/methods/by_way_of_ssd_1b_shapes.py",
    "../_base_/datasets/shapes.py",
    "../_base_/schedules/shapes_100.py",
    "../_base_/shapes_runtime.py",
]
_base_.model.merge(_base_.pop("cut"))
