"""Frozen models that take less memory: their linear layers in 8 bits, or on the CPU until they are needed."""

import importlib.util
import logging

import torch
from diffusers.hooks import apply_group_offloading
from mmengine.device import get_device
from torch import Tensor, nn

from diffdistill.errors import InputError

WAYS = ("int8",)


def check_thrift(quantize: str | None, offload: bool, key: str) -> None:
    """Raise InputError unless both, of the family at the place `key` of a config, are known and can be had here."""
    if quantize not in (None, *WAYS):
        raise InputError(f"{key}.quantize={quantize!r} is unknown; use None or 'int8'")
    if quantize and importlib.util.find_spec("torchao") is None:
        raise InputError(f"{key}.quantize={quantize!r} needs torchao; run `pip install torchao`, or leave it out")
    if not isinstance(offload, bool):
        raise InputError(f"{key}.offload={offload!r}: give True or False")


def quantizable(module: nn.Module, *_) -> bool:
    """Whether `quantize` holds the weight of `module` in 8 bits: that of a linear layer that is not trained."""
    return isinstance(module, nn.Linear) and not module.weight.requires_grad


def quantize(model: nn.Module) -> nn.Module:
    """Hold the frozen linear layers of `model` in 8 bits with a scale for each row of a weight, by torchao; returns it.

    They compute in the dtype that they had. Gradients pass through them, to what is before and to adapters.
    """
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of every compiled part that is for another machine
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig(version=2), filter_fn=quantizable)
    for module in model.modules():
        if quantizable(module):
            module.register_forward_pre_hook(cast_input)
    return model


def cast_input(module: nn.Linear, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """The input of a linear layer in the dtype of its weight: autocast leaves out those of 8 bits."""
    return (inputs[0].to(module.weight.dtype),)


def offload(model: nn.Module) -> None:
    """Keep `model` on the CPU; each of its layers visits the training device while it computes."""
    apply_group_offloading(model, torch.device(get_device()), torch.device("cpu"), offload_type="leaf_level")


def is_offloaded(model: nn.Module) -> bool:
    """Whether `offload` keeps the model on the CPU, so that nothing may move it."""
    return any(hasattr(module, "_diffusers_hook") for module in model.modules())
