"""The runtime of transformers: checkpoints and sample grids every 4,000 iterations."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    checkpoint=dict(interval=4000),
    samples=dict(
        interval=4000,
        prompts=[
            "a red fox in the snow",
            "a bowl of soup on a wooden table",
            "a dog and a cat on a beach",
            'a shop window with a sign that says "open"',
        ],
    ),
)
