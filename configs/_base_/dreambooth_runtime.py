"""The runtime of the DreamBooth runs: short intervals, and prompts that put the dog elsewhere."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(
    checkpoint=dict(interval=100),
    samples=dict(
        interval=100,
        prompts=[
            "a photo of sks dog",
            "a photo of sks dog in a bucket",
            "a painting of sks dog on a beach",
            "a photo of a dog",
        ],
    ),
)
