"""The runtime of Segmind's SD-Small and SD-Tiny: a sample grid every 5,000 updates."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(samples=dict(prompts=["a portrait photo of an old fisherman", "a red fox in the snow"], interval=5000))
