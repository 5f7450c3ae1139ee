"""What is not trained: models that are held out of the module tree, and frozen layers of a student."""

from collections.abc import Sequence

import diffusers
import torch
from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.thrift import is_offloaded, quantize
from diffdistill.students.cut import path_matches


class Frozen(nn.Module):
    """A pipeline whose models move with `.to()` and do nothing else.

    They are no submodules: never in a state dict, an optimiser, train mode or DDP's buckets. A deep copy of the model around
    (as EMA makes) shares them.

    Args:
        student: a denoiser beside the pipeline's, the base of an adapter.
        quantized: hold denoisers and text encoders in 8 bits, where they are neither trained nor kept on the CPU.
    """

    def __init__(self, pipeline: diffusers.DiffusionPipeline, student: nn.Module | None = None, quantized: bool = False):
        super().__init__()
        self.pipeline = pipeline  # no nn.Module, so nn.Module does not register it
        vars(self)["student"] = student
        for model in self.models() if quantized else ():
            if model is not pipeline.vae and not is_offloaded(model):
                quantize(model)

    def models(self) -> list[nn.Module]:
        """All models that are held, each of them once."""
        parts = [*self.pipeline.components.values(), self.student]
        return list({id(part): part for part in parts if isinstance(part, nn.Module)}.values())

    def _apply(self, fn, recurse=True):
        for model in self.models():
            if not is_offloaded(model):
                model._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo):
        return self


def moved(condition: dict, device: torch.device) -> dict:
    """The conditioning on `device`: that of offloaded text encoders is on the CPU."""
    return {name: moved(value, device) if isinstance(value, dict) else value.to(device) for name, value in condition.items()}


def freeze_layers(student: nn.Module, patterns: Sequence[str]) -> nn.Module:
    """Take the gradients off the modules of `student` whose paths match one of `patterns`; returns it.

    Raises InputError for a pattern that matches nothing.
    """
    for pattern in patterns:
        found = [module for name, module in student.named_modules() if path_matches(pattern, name)]
        if not found:
            raise InputError(
                f"model.student.frozen: {pattern!r} matches no module of the student; e.g. 'transformer_blocks.[01]'"
            )
        for module in found:
            module.requires_grad_(False)
    return student
