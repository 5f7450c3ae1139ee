"""The runtime of phased consistency for adapters: no average, a checkpoint and a sample grid every 1,000 updates."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    checkpoint=dict(interval=1000),
    samples=dict(interval=1000, prompts=["a red fox in the snow", "a bowl of soup", "a dog on a beach", "a red bus"]),
)
