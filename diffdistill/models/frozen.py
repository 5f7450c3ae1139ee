"""Holds frozen models out of the module tree."""

import diffusers
from torch import nn


class Frozen(nn.Module):
    """A pipeline whose models move with `.to()` and do nothing else.

    They are no submodules: never in a state dict, an optimiser, train mode or DDP's buckets. A deep copy of the model around
    (as EMA makes) shares them.

    Args:
        student: a denoiser beside the pipeline's, the base of an adapter.
    """

    def __init__(self, pipeline: diffusers.DiffusionPipeline, student: nn.Module | None = None):
        super().__init__()
        self.pipeline = pipeline  # no nn.Module, so nn.Module does not register it
        vars(self)["student"] = student

    def models(self) -> list[nn.Module]:
        """All models that are held, each of them once."""
        parts = [*self.pipeline.components.values(), self.student]
        return list({id(part): part for part in parts if isinstance(part, nn.Module)}.values())

    def _apply(self, fn, recurse=True):
        for model in self.models():
            model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo):
        return self
