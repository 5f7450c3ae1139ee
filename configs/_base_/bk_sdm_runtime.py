"""The runtime of BK-SDM: an average of the student (decay 0.9999 per update of 4 iterations), the authors' sample prompt."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="ExponentialMovingAverage", momentum=0.0001, interval=4),
    checkpoint=dict(interval=20_000),
    samples=dict(
        interval=20_000,
        prompts=["a golden vase with different flowers", "a red double-decker bus", "a bowl of soup", "a dog on a beach"],
    ),
)
