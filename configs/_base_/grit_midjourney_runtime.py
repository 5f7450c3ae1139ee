"""The runtime of SSD-1B and Vega on GRIT and Midjourney: checkpoints and sample grids every 8,000 iterations."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(checkpoint=dict(interval=8000), samples=dict(prompts=["a red fox in the snow"], interval=8000))
