"""The runtime of trainings for few steps: a checkpoint every 4,000 iterations, which is every 1,000 updates of 4."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    checkpoint=dict(interval=4000),
    samples=dict(interval=20_000, prompts=["a red fox in the snow", "a bowl of soup", "a dog on a beach", "a red bus"]),
)
