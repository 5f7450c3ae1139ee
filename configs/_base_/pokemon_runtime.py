"""The runtime of the runs on Pokemon-BLIP captions: prompts in the manner of these captions."""

_base_ = ["./default_runtime.py"]

default_hooks = dict(samples=dict(prompts=["yoda pokemon", "a cute dragon", "a green turtle", "a yellow mouse"]))
