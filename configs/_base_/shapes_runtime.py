"""The runtime of the shapes benchmark: short intervals, and the captions of its sample grids."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    checkpoint=dict(interval=100),
    samples=dict(
        interval=50,
        prompts=[
            "a large red circle on a blue background",
            "a small yellow square on a magenta background at the left",
            "a large green triangle on a white background",
            "a small blue cross on a yellow background at the top",
            "a large magenta square on a green background at the right",
            "a small white circle on a red background at the bottom",
            "a large yellow triangle on a black background in the centre",
            "a small red cross on a white background",
        ],
    ),
)
