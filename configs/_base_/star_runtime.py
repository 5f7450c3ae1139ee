"""The runtime of the star: captions of stars, and old ones beside them."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    checkpoint=dict(interval=100),
    samples=dict(
        interval=100,
        prompts=[
            "a large s",
            "a large red s on a white background",
            "a large yellow s on a green background at the left",
            "a large blue s on a cyan background at the top",
            "a large magenta s on a black background at the right",
            "a large red circle on a white background",
            "a small yellow square on a green background at the left",
            "a large blue triangle on a cyan background",
            "a small magenta cross on a black background",
        ],
    ),
)
