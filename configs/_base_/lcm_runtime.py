"""The runtime of latent consistency distillation: the average of the student, decay 0.95, and short intervals."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    ema=dict(type="TargetEMAHook", momentum=0.05),
    checkpoint=dict(interval=200),
    samples=dict(interval=200, prompts=["a red fox in the snow", "a bowl of soup", "a dog on a beach", "a red bus"]),
)
