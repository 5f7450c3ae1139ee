"""Text encoders that take less memory: in 8 bits, or on the CPU until they are needed."""

import importlib.util
import logging

import torch
import transformers
from diffusers.hooks import apply_group_offloading
from mmengine.device import get_device
from torch import nn

from diffdistill.errors import InputError

WAYS = ("8bit", "offload")


def check_way(way: str | None, key: str) -> None:
    """Raise InputError unless `way`, at the place `key` of a config, is None or one of `WAYS` that can be had here."""
    if way not in (None, *WAYS):
        raise InputError(f"{key}={way!r} is unknown; use None, '8bit' or 'offload'")
    if way == "8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(f"{key}='8bit' needs bitsandbytes; run `pip install bitsandbytes`, or use 'offload'")


def in_8_bits() -> transformers.BitsAndBytesConfig:
    """What `from_pretrained` of a text encoder is told to load its linear layers in 8 bits (Dettmers et al., 2022)."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns in every layer that bf16 is cast
    return transformers.BitsAndBytesConfig(load_in_8bit=True)


def offload(model: nn.Module) -> None:
    """Keep `model` on the CPU; each of its layers visits the training device while it computes."""
    apply_group_offloading(model, torch.device(get_device()), torch.device("cpu"), offload_type="leaf_level")


def is_offloaded(model: nn.Module) -> bool:
    """Whether `offload` keeps the model on the CPU, so that nothing may move it."""
    return any(hasattr(module, "_diffusers_hook") for module in model.modules())
