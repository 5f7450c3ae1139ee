"""What a batch is to a denoiser: latents and conditioning, of captioned pictures or of captions alone."""

import functools
from collections.abc import Mapping
from types import SimpleNamespace

import diffusers
import torch
from torch import Tensor

from diffdistill.families.base import Family


def latents_of(family: Family, pipeline: diffusers.DiffusionPipeline, batch: Mapping, needed: bool) -> Tensor:
    """Latents (B, C, H, W) in fp32 of the pictures of a batch; zeros where they are not `needed`, but for their shape."""
    if needed:
        return family.encode_pictures(pipeline, batch["pixel_values"])
    shape = latent_shape(family, *size_of(family, batch))
    return torch.zeros(len(batch["caption"]), *shape, device=pipeline.vae.device)


def condition_of(family: Family, pipeline: diffusers.DiffusionPipeline, batch: Mapping) -> dict:
    """The conditioning of a batch; captions alone are those of whole pictures of the native resolution."""
    if "pixel_values" in batch:
        return family.encode_captions(pipeline, batch)
    return family.condition_at(pipeline, list(batch["caption"]), *size_of(family, batch))


def size_of(family: Family, batch: Mapping) -> tuple[int, int]:
    """Height and width of the pictures of a batch, in pixels; without pictures, those of the native resolution."""
    height, width = batch["pixel_values"].shape[-2:] if "pixel_values" in batch else [family.native_size] * 2
    return height, width


@functools.lru_cache(maxsize=16)  # pictures of a run have few sizes
def latent_shape(family: Family, height: int, width: int) -> torch.Size:
    """(C, h, w) of the latents of a picture of that size, in pixels, as the VAE tells it on the meta device."""
    with torch.device("meta"):
        vae = family.build_on_meta("vae")
        return family.encode_pictures(SimpleNamespace(vae=vae), torch.zeros(1, 3, height, width)).shape[1:]
