"""Phased consistency (Wang et al., 2024, arXiv:2405.18407) on shapes: 4 phases, all else as in `lcm_shapes.py`."""

_base_ = ["./lcm_shapes.py"]

method = dict(method=dict(grid=40, phases=4, steps=None))
