"""Reading LoRA files: whatever form diffusers reads becomes one, peft's names with the scale in the weights.

Forms: peft's (`unet.<layer>.lora_A.weight`, `transformer.<layer>.lora_A.weight`), the older ones of diffusers
(`<layer>.lora.down.weight`, and `to_q_lora.down.weight` of attention processors) and kohya's, also of LCM-LoRA
(`lora_unet_<layer>.lora_down.weight`, with layers named as in diffusers or as in the original checkpoints).

Names are converted by diffusers. Its `load_lora_weights` is not called: it needs the teacher's weights in memory (a LoRA on
the meta device loses its values) and leaves out, without an error, what does not fit.
"""

import inspect
import json
import math
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.files import check_no_pickle

# Model of the pipeline -> adapted layer -> "lora_A.weight", "lora_B.weight" and the like -> tensor.
Layers = dict[str, dict[str, Tensor]]
Lora = dict[str, Layers]

KOHYA = re.compile(r"lora_(unet|te|te1|te2)_\w+\.(lora_down\.weight|lora_up\.weight|alpha)")
DIFFUSERS = re.compile(
    r".+(\.lora_[AB]\.weight|\.lora_B\.bias|\.lora_magnitude_vector(\.weight)?|[._]lora\.(down|up)\.weight"
    r"|\.lora_linear_layer\.(down|up)\.weight|\.alpha)"
)
MODEL = re.compile(r"(unet|transformer|text_encoder(?:_\d)?)\.(.+)")
PART = re.compile(r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_magnitude_vector(?:\.weight)?)")


def find_file(path: str) -> Path:
    """The LoRA at `path`: a file, or the file in a folder that diffusers writes; else the folder's only safetensors file."""
    if not Path(path).is_dir():
        if not Path(path).exists():
            raise InputError(f"LORA={path}: no such file or folder")
        return Path(path)
    files = sorted(Path(path).glob("*.safetensors"))
    named = [file for file in files if file.name == LORA_WEIGHT_NAME_SAFE]
    if len(named or files) != 1:
        raise InputError(f"LORA={path}: the folder has no {LORA_WEIGHT_NAME_SAFE}; name the file itself")
    return (named or files)[0]


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and peft's config, {} if there is none, of a safetensors file or of an older one that torch saved."""
    try:
        if file.suffix != ".safetensors":
            check_no_pickle(file, f"LORA={file}")
            tensors = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            check_names(file, tensors)
            return dict(tensors), {}
        with safe_open(file, framework="pt") as opened:
            check_names(file, opened.keys())
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (it is no mapping)
            return tensors, json.loads(metadata.get(LORA_ADAPTER_METADATA_KEY) or "{}")
    except InputError:
        raise
    except (SafetensorError, OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"LORA={file}: no file of tensors, or damaged ({type(error).__name__})") from None


def check_names(file: Path, names: Iterable[str]) -> None:
    """Raise InputError unless all `names` of tensors are those of a LoRA, before a file that may hold gigabytes is read."""
    names = list(names)
    form = KOHYA if any(map(KOHYA.fullmatch, names)) else DIFFUSERS
    foreign = next((name for name in names if not form.fullmatch(name)), None)
    if foreign or not names:
        raise InputError(
            f"LORA={file}: {foreign or 'nothing'} is no tensor of a LoRA in the form of diffusers, peft or kohya;"
            " LoHa, LoKr, kohya's DoRA (dora_scale) and whole checkpoints cannot be transferred"
        )


def read_lora(path: str, family: type[Family], config: Mapping) -> Lora:
    """The LoRA at `path`, made for a pipeline of `family` with a denoiser of `config` (as diffusers keeps it).

    Its alphas, or those of the peft config in its metadata, are multiplied into `lora_B`: the change of a layer's weight is
    lora_B @ lora_A, and no reader needs to be told a scale.
    """
    name, reads = family.denoiser_name, getattr(family.pipeline_class, "lora_state_dict", None)
    if reads is None:
        raise InputError(f"LORA={path}: diffusers loads no LoRA into a {family.pipeline_class.__name__}; merge it instead")
    file = find_file(path)
    tensors, metadata = read_tensors(file)
    alphas = {}
    if not any(map(KOHYA.fullmatch, tensors)):
        alphas = {name: tensors.pop(name).item() for name in list(tensors) if name.endswith(".alpha")}
    try:
        if "return_alphas" in inspect.signature(reads).parameters:
            tensors, found = reads(tensors, return_alphas=True)
        else:
            given = reads(tensors, unet_config=config)
            tensors, found = given if isinstance(given, tuple) else (given, None)
        alphas.update(found or {})
        if not any(map(MODEL.fullmatch, tensors)):  # written before diffusers told the models of a pipeline apart
            tensors, alphas = ({f"{name}.{key}": value for key, value in each.items()} for each in (tensors, alphas))
        lora = {}
        for model, names in peft_names(tensors).items():
            own = {key.removeprefix(f"{model}."): value for key, value in metadata.items() if key.startswith(f"{model}.")}
            lora[model] = read_layers(tensors, names, alphas, own)
        if alphas:
            raise ValueError(f"{min(alphas)} belongs to no layer")
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"LORA={file}: diffusers cannot read it: {' '.join(str(error).split())[:300]}") from None
    return lora


def peft_names(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each model of the pipeline: the name in peft's form, without the model's -> the name as it was."""
    models: dict[str, dict[str, str]] = {}
    for name in names:
        match = MODEL.fullmatch(name)
        if not match:
            raise ValueError(f"{name} does not say which model of the pipeline it is of")
        models.setdefault(match[1], {})[match[2]] = name
    for model, state in models.items():  # these convert the keys alone, so any values will do
        if not model.startswith("text_encoder"):
            models[model] = convert_unet_state_dict_to_peft(state)
        elif not any(".lora_A." in name for name in state):
            models[model] = convert_state_dict_to_peft(convert_state_dict_to_diffusers(state))
    return models


def read_layers(tensors: Mapping[str, Tensor], names: Mapping[str, str], alphas: dict, config: Mapping) -> Layers:
    """The layers of one model, with scale 1; takes what it uses out of `alphas`. `config`: peft's, {} if there is none."""
    layers: Layers = {}
    scales: dict[str, float] = {}
    for name, old in names.items():
        match = PART.fullmatch(name)
        if not match:
            raise ValueError(f"{old} is not understood")
        layer, part = match.groups()
        layers.setdefault(layer, {})[part] = tensors[old]
        if part == "lora_A.weight":
            # Under this name diffusers gives the alpha of a layer.
            alpha = alphas.pop(re.split(r"\.lora\.|\.lora_A\.", old)[0] + ".alpha", None)
            scales[layer] = scale_of(layer, len(tensors[old]), alpha, config)
    for layer, parts in layers.items():
        if not {"lora_A.weight", "lora_B.weight"} <= parts.keys():
            raise ValueError(f"{layer} lacks one of its two matrices")
        layers[layer] = scaled(parts, scales[layer])
    return layers


def scale_of(layer: str, rank: int, alpha: float | None, config: Mapping) -> float:
    """What peft multiplies lora_B @ lora_A by; a file that does not say means 1."""
    if alpha is None and config:
        patterns = config.get("alpha_pattern") or {}
        alpha = patterns.get(get_pattern_key(patterns, layer), config["lora_alpha"])
    if alpha is None:
        return 1.0
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def scaled(parts: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """`parts` with `lora_B` multiplied by `scale`; unless that is 1, in fp32, as half precision would round the product."""
    if scale == 1:
        return parts
    return {name: tensor.float() * (scale if name.startswith("lora_B") else 1) for name, tensor in parts.items()}
