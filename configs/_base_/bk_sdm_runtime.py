"""The runtime of BK-SDM: an average of the student, with the authors' decay, and their sample prompt.

That is min(0.9999, (1 + n) / (10 + n)), from diffusers' EMAModel. MMEngine's momentum, max(0.0001, 9 / (9 + n)), gives the
same one update later.
"""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    ema=dict(type="EMAHook", ema_type="MomentumAnnealingEMA", momentum=0.0001, gamma=9),
    checkpoint=dict(interval=20_000),
    samples=dict(
        interval=20_000,
        prompts=["a golden vase with different flowers", "a red double-decker bus", "a bowl of soup", "a dog on a beach"],
    ),
)
