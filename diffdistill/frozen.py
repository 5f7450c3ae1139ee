"""Holds frozen models out of the module tree."""

import diffusers
from torch import nn


class Frozen(nn.Module):
    """A pipeline whose models move with `.to()` and do nothing else.

    They are no submodules: never in a state dict, an optimiser, train mode or DDP's buckets. A deep copy of the model around
    (as EMA makes) shares them.
    """

    def __init__(self, pipeline: diffusers.DiffusionPipeline):
        super().__init__()
        self.pipeline = pipeline  # no nn.Module, so nn.Module does not register it

    def models(self) -> list[nn.Module]:
        return [model for model in self.pipeline.components.values() if isinstance(model, nn.Module)]

    def _apply(self, fn, recurse=True):
        for model in self.models():
            model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo):
        return self
