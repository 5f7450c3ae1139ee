"""What is not trained: models that are held out of the module tree, and frozen layers of a student."""

from collections.abc import Callable, Iterable, Sequence

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
        lend: loads the parts by name that `pipeline` lacks, for as long as pictures are drawn.
    """

    def __init__(
        self,
        pipeline: diffusers.DiffusionPipeline,
        student: nn.Module | None = None,
        quantized: bool = False,
        lend: Callable[[], dict[str, nn.Module]] | None = None,
    ):
        super().__init__()
        self.pipeline = pipeline  # no nn.Module, so nn.Module does not register it
        vars(self)["student"] = student
        self.quantized, self.lend, self.lent = quantized, lend, ()
        if quantized:
            self.quantize(self.models())

    def quantize(self, models: Iterable[nn.Module]) -> None:
        """Hold those of `models` in 8 bits that can be."""
        for model in models:
            if model is not self.pipeline.vae and not is_offloaded(model):
                quantize(model)

    def whole(self, device: torch.device) -> diffusers.DiffusionPipeline:
        """The pipeline with all its parts; those that a cache stands in for are loaded, until `release`."""
        if self.lend and not self.lent:
            with torch.random.fork_rng():  # a step draws what it would have drawn without
                parts = self.lend()
            self.pipeline.register_modules(**parts)
            if self.quantized:
                self.quantize(parts.values())
            for model in parts.values():
                if not is_offloaded(model):
                    nn.Module.to(model, device)
            self.lent = tuple(parts)
        return self.pipeline

    def release(self) -> None:
        """Let go of what `whole` has loaded."""
        self.pipeline.register_modules(**dict.fromkeys(self.lent))
        self.lent = ()

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
