"""An assistant: a LoRA that undoes the distillation of a few-step student while another LoRA is trained."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from safetensors import safe_open
from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.families.checkpoint import check_tensors
from diffdistill.models.adapters import adapter_layers
from diffdistill.students.cut import state_on_meta

NAME = "assistant"  # what peft calls it, beside the "default" that is trained


class Assistant:
    """A trained LoRA of a family's denoiser, which is active in training steps and silent wherever pictures are drawn.

    A few-step student with it is an ordinary denoiser, so what a second LoRA learns beside it at random timesteps does not
    wear off the steps of the student, which come back with its removal (ostris, FLUX.1-schnell-training-adapter, model card,
    2024, and ai-toolkit's `assistant_lora_path`).

    Args:
        path: the `step<N>` folder of the run that trained it, or another LoRA in the format of diffusers.
        family: of the student that is tuned.

    Raises InputError, naming `model.assistant`, for a LoRA that is not there or damaged, and for one of another denoiser. No
    tensor is read.
    """

    def __init__(self, path: str, family: Family):
        self.prefix, where = family.denoiser_name, f"model.assistant={path}"
        self.file = Path(path, LORA_WEIGHT_NAME_SAFE) if Path(path).is_dir() else Path(path)
        if not self.file.exists():
            raise InputError(f"{where}: no {self.file.name} there; train the assistant first, or name its step<N> folder")
        check_tensors(self.file, where)
        denoiser = family.denoiser_class
        if not hasattr(denoiser, "load_lora_adapter"):
            raise InputError(f"{where}: diffusers loads no LoRA into a {denoiser.__name__}; leave the assistant out")
        with safe_open(self.file, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        for name in shapes:
            if not name.startswith(f"{self.prefix}."):
                raise InputError(
                    f"{where} holds {name}; an assistant is a LoRA of the {self.prefix}, in the format of diffusers"
                )
        own = {name.removeprefix(f"{self.prefix}."): shape for name, shape in shapes.items()}
        check_fits(own, state_on_meta(denoiser, family.denoiser_config), where)

    def join(self, denoiser: nn.Module, dtype: torch.dtype) -> None:
        """Put the assistant, frozen and in `dtype`, into `denoiser`, beside the adapter that is trained there."""
        with warnings.catch_warnings(action="ignore"):  # peft doubts that two adapters are meant
            denoiser.load_lora_adapter(self.file.parent, weight_name=self.file.name, prefix=self.prefix, adapter_name=NAME)
        for layer in adapter_layers(denoiser).values():
            layer.set_adapter(["default", NAME])  # which gives both of them gradients
        for name, parameter in denoiser.named_parameters():
            if f".{NAME}." in name:
                parameter.requires_grad_(False)
                parameter.data = parameter.data.to(dtype)


def check_fits(lora: Mapping[str, tuple], base: Mapping[str, torch.Tensor], where: str) -> None:
    """Raise InputError for a tensor of `lora`, name -> shape, that belongs to no weight of `base`, or does not fit it."""
    for name, shape in lora.items():
        layer, _, part = name.partition(".lora_")
        weight = base.get(f"{layer}.weight")
        if part not in ("A.weight", "B.weight") or weight is None:
            raise InputError(f"{where}: {name} belongs to no layer of the student; it is the LoRA of another model")
        fits = shape[1:] == tuple(weight.shape[1:]) if part.startswith("A") else shape[0] == weight.shape[0]
        if not fits:
            raise InputError(
                f"{where}: {name} of shape {shape} does not fit the student's {layer}.weight of {tuple(weight.shape)};"
                " it is the LoRA of another model"
            )


@contextmanager
def silenced(denoiser: nn.Module) -> Iterator[nn.Module]:
    """Inside the block `denoiser` computes what it does without its assistant."""
    layers = [layer for layer in adapter_layers(denoiser).values() if NAME in getattr(layer, "scaling", ())]
    for layer in layers:
        layer.set_scale(NAME, 0.0)
    try:
        yield denoiser
    finally:
        for layer in layers:
            layer.set_scale(NAME, 1.0)
