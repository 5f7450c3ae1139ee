"""shapes_100.py at twice the learning rate, as the SD3 class takes it."""

_base_ = ["./shapes_100.py"]

optim_wrapper = dict(optimizer=dict(lr=2e-3))
