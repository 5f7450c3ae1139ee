"""Quantised models on disk, as torchao's tensors in safetensors, which stock diffusers loads; needs torchao.

Of the libraries whose files stock diffusers loads, torchao's `IntxUnpackedToInt8Tensor` is the one for convolutions as well,
and for any even spacing of up to 8 bits. Each weight takes a byte, however few its bits are.
"""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import FrozenDict
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.students.quantization import Grid, Quantization

CONFIG = "quantization_config"  # diffusers' key in a model's config.json
FP8 = "fp8"
WAYS = {"int8": 8, "int4": 4, FP8: 8}  # of quantisation after training -> the bits of a weight


def check_torchao(where: str) -> None:
    """Raise InputError, which names what needs it, unless torchao is installed."""
    if importlib.util.find_spec("torchao") is None:
        raise InputError(f'{where} needs torchao; run `pip install "diffdistill[quantized]"`')
    logging.getLogger("torchao").setLevel(logging.ERROR)  # it warns of every compiled part that is for another machine


def pack(model: ModelMixin, quantization: Quantization, dtype: torch.dtype) -> dict:
    """Hold the layers of `model` that are to be quantised in torchao's tensors, and the rest in `dtype`.

    `save_pretrained` then writes them, for `from_pretrained`. Weights that are values of the grid already stay what they
    are, up to the scale's rounding to `dtype`.

    A `quantization.way` of FP8 holds linear layers as 8-bit floats, with a scale a row. Few machines compute such
    convolutions: those stay in `dtype`.

    Returns: what `quantization` is, and how many `parameters` in how many `layers` are quantised.
    """
    from diffusers import TorchAoConfig
    from diffusers.quantizers.auto import DiffusersAutoQuantizer

    layers = quantization.layers(model)
    if quantization.way == FP8:
        layers = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}
    weights = {name: packed(layer, quantization, dtype) for name, layer in layers.items()}
    nn.Module.to(model, dtype)
    for name, layer in layers.items():
        layer.weight = nn.Parameter(weights[name], requires_grad=False)
        if type(layer) not in (nn.Linear, nn.Conv2d):  # its inputs were quantised here, and are in the library from now on
            layer.__class__ = type(layer).__base__
    whole = [name for name, each in model.named_modules() if isinstance(each, nn.Linear) and name not in layers]
    config = TorchAoConfig(library_config(quantization), modules_to_not_convert=whole)
    model.register_to_config(**{CONFIG: config})
    model.hf_quantizer = DiffusersAutoQuantizer.from_config(config, pre_quantized=True)
    model.hf_quantizer.validate_environment()
    return quantization.counted(layers)


def packed(layer: nn.Module, quantization: Quantization, dtype: torch.dtype) -> Tensor:
    """The weight of a layer as torchao's tensor, of `dtype` to whoever computes with it."""
    from torchao.quantization import Float8Tensor, Int8Tensor, IntxUnpackedToInt8Tensor, PerRow
    from torchao.quantization.quantize_.workflows import QuantizeTensorToInt8Kwargs

    grid, weight = quantization.grid, layer.weight.detach()
    if quantization.way == FP8:
        return Float8Tensor.from_hp(weight.to(dtype), granularity=PerRow())
    codes, step = grid.codes(weight)
    block = [1, grid.group_size or weight.shape[1], *(1 if grid.group_size else side for side in weight.shape[2:])]
    step = step.reshape([whole // part for whole, part in zip(weight.shape, block, strict=True)])
    # Of an even number of values none is 0: they lie half a step beside whole numbers.
    zero = -0.5 if grid.levels % 2 == 0 else 0.0
    codes = (codes + zero).view_as(weight).to(torch.int8)
    if quantization.activations and isinstance(layer, nn.Linear):
        inputs = QuantizeTensorToInt8Kwargs(granularity=PerRow())
        return Int8Tensor(codes, step, block, dtype, act_quant_kwargs=inputs)
    zeros = torch.full_like(step, zero, dtype=dtype)
    return IntxUnpackedToInt8Tensor(codes, step.to(dtype), zeros, integer(grid), tuple(block), dtype, None)


def integer(grid: Grid) -> torch.dtype:
    """The smallest signed integer of torch that holds the values of a grid."""
    return getattr(torch, f"int{(grid.levels - 1).bit_length()}")


def library_config(quantization: Quantization):
    """What torchao calls the same; diffusers wants it in a model's config."""
    from torchao.quantization import Float8WeightOnlyConfig, Int8DynamicActivationInt8WeightConfig, IntxWeightOnlyConfig
    from torchao.quantization.granularity import PerAxis, PerGroup

    if quantization.way == FP8:
        return Float8WeightOnlyConfig()
    if quantization.activations:
        return Int8DynamicActivationInt8WeightConfig()
    grid = quantization.grid
    return IntxWeightOnlyConfig(integer(grid), PerGroup(grid.group_size) if grid.group_size else PerAxis(0))


def is_packed(config: Mapping) -> bool:
    """Whether a model of this diffusers config has quantised weights on disk."""
    return bool(config.get(CONFIG))


def without_packing(config: Mapping) -> dict:
    """The diffusers config of the same model with plain weights."""
    return {key: value for key, value in config.items() if key != CONFIG}


def unpack(model: ModelMixin, dtype: torch.dtype) -> ModelMixin:
    """Put plain weights of the same values, in `dtype`, in the place of torchao's; returns `model`.

    They can be trained, copied, averaged and saved. Layers whose inputs are quantised as well stay as they are.
    """
    from torchao.utils import TorchAOBaseTensor

    kept = False
    for layer in model.modules():
        weight = vars(layer)["_parameters"].get("weight")
        if not isinstance(weight, TorchAOBaseTensor):
            continue
        if getattr(weight, "act_quant_kwargs", None):
            kept = True
        else:
            layer.weight = nn.Parameter(weight.dequantize().to(dtype))
            vars(layer).pop("extra_repr", None)
    vars(model).pop("is_quantized", None)  # diffusers would not cast it
    return model if kept else forget_packing(model)


def forget_packing(model: ModelMixin) -> ModelMixin:
    """Take out of `model` that it is to be saved quantised; returns it."""
    model._internal_dict = FrozenDict(without_packing(model.config))
    vars(model).pop("hf_quantizer", None)
    return model


def size_on_disk(folder: Path) -> int:
    """Bytes of the weights of a model in `folder`."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
