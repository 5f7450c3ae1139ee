"""The models of a pipeline in one original checkpoint: where each tensor is, how it is put there and taken out again."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from diffdistill.original.text import FUSED, TRANSPOSED, open_clip_place
from diffdistill.original.unet import unet_names
from diffdistill.original.vae import CONVOLVED, vae_names

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "transformer.", "model."  # what stands before OpenAI's and OpenCLIP's text encoders, in their place
# The places of text encoders -> what the pipeline calls them.
SD, XL = {"cond_stage_model.": "text_encoder"}, {
    "conditioner.embedders.0.": "text_encoder",
    "conditioner.embedders.1.": "text_encoder_2",
}  # fmt: skip
TEXT = SD | XL


class Place(NamedTuple):
    """Where a tensor is: the name, and which third of the tensor there, if not all of it."""

    name: str
    third: int | None = None


def text_prefix(encoder: str, xl: bool, open_clip: bool) -> str:
    """What stands before the tensors of the text encoder that the pipeline calls `encoder`."""
    place = next(place for place, name in (XL if xl else SD).items() if name == encoder)
    return place + (OPEN_CLIP if open_clip else CLIP)


def places(prefix: str, names: Iterable[str], gapped: bool = False) -> dict[str, Place]:
    """Name of a tensor of a model, for text encoders the published one -> its place, behind `prefix`.

    `gapped`: see `unet_places`.
    """
    names = list(names)
    if prefix == UNET:
        found = {name: Place(new) for name, new in unet_names(names, gapped).items()}
    elif prefix == VAE:
        found = {name: Place(new) for name, new in vae_names(names).items()}
    elif prefix.endswith(f".{OPEN_CLIP}"):
        found = {name: Place(*open_clip_place(name)) for name in names}
    else:
        found = {name: Place(name) for name in names}
    return {name: Place(prefix + place.name, place.third) for name, place in found.items()}


def store(tensors: Mapping[str, Tensor], where: Mapping[str, Place]) -> dict[str, Tensor]:
    """The tensors by their original names, as they are there."""
    thirds: dict[str, list[Tensor | None]] = {}
    stored = {}
    for name, tensor in tensors.items():
        place = where[name]
        if place.third is not None:
            thirds.setdefault(place.name, [None] * len(FUSED))[place.third] = tensor
        elif place.name.endswith(f".{OPEN_CLIP}{TRANSPOSED}"):
            stored[place.name] = tensor.T.contiguous()
        elif place.name.endswith(CONVOLVED):
            stored[place.name] = tensor[..., None, None].contiguous()
        else:
            stored[place.name] = tensor.contiguous()
    return stored | {name: torch.cat(parts) for name, parts in thirds.items()}


def fetch(where: Mapping[str, Place], read: Callable[[str], Tensor]) -> dict[str, Tensor]:
    """What `store` was given, from what `read` returns for an original name."""
    found = {}
    for name, place in where.items():
        tensor = read(place.name)
        if place.third is not None:
            tensor = tensor.chunk(len(FUSED))[place.third]
        elif place.name.endswith(f".{OPEN_CLIP}{TRANSPOSED}"):
            tensor = tensor.T
        elif place.name.endswith(CONVOLVED):
            tensor = tensor.flatten(1)
        found[name] = tensor
    return found
