"""The runtime of KOALA: a sample grid every 20,000 iterations, which is every 5,000 updates of 4."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(samples=dict(prompts=["a portrait painting of a golden retriever"], interval=20_000))
