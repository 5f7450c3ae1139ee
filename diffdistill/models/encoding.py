"""What a batch is to a denoiser: latents and conditioning, of captioned pictures or of captions alone."""

from collections.abc import Mapping

import diffusers
import torch
from torch import Tensor

from diffdistill.families.base import Family
from diffdistill.families.latents import latent_shape


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
