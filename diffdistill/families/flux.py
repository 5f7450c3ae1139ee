"""FLUX.1 (Black Forest Labs, 2024): blocks of two streams, then of one; a token of the picture is 2 x 2 latents."""

from typing import ClassVar

import diffusers
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from diffdistill.families.base import Family
from diffdistill.families.text import encode_prompt
from diffdistill.registry import MODELS

PATCH = 2


def pack(latents: Tensor) -> Tensor:
    """Tokens (B, h/2 * w/2, 4 C) of latents (B, C, h, w)."""
    return pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Latents (B, C, height, width) of their tokens; the inverse of `pack`."""
    latents = pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height // PATCH, width // PATCH)), PATCH)
    return latents.contiguous()  # else the VAE's convolutions round otherwise than in the pipeline


@MODELS.register_module()
class Flux(Family):
    """Pipelines of diffusers' `FluxPipeline`: FLUX.1-dev, -schnell and their students.

    Args:
        max_sequence_length: tokens of T5, in training and in sampling; schnell was trained with 256.
        guidance_scale: what a denoiser that embeds the guidance scale is told where neither the method nor `sampling` says
            another, as in the LoRA training of diffusers.
    """

    pipeline_class = diffusers.FluxPipeline
    denoiser_class = diffusers.FluxTransformer2DModel
    models = ("vae", "text_encoder", "text_encoder_2")
    load_options: ClassVar = dict(feature_extractor=None, image_encoder=None)
    sigmas_given = True
    patch = PATCH  # that of the config, 1, counts packed latents

    def __init__(self, *args, max_sequence_length: int = 512, guidance_scale: float = 3.5, **options):
        self.max_sequence_length, self.guidance_scale = max_sequence_length, guidance_scale
        super().__init__(*args, **options)

    @property
    def call_options(self) -> dict:
        return dict(max_sequence_length=self.max_sequence_length, guidance_scale=self.guidance_scale)

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        height, width = (side // PATCH for side in noisy.shape[-2:])
        rows, columns = torch.meshgrid(*(torch.arange(n, device=noisy.device) for n in (height, width)), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1).float()
        if denoiser.config.guidance_embeds:
            scales = torch.full(timesteps.shape, self.guidance_scale, device=noisy.device)
            condition = {"guidance": scales, **condition}
        tokens = denoiser(
            pack(noisy),
            timestep=timesteps / 1000,
            img_ids=places,
            txt_ids=places.new_zeros(condition["encoder_hidden_states"].shape[1], 3),
            **condition,
            return_dict=False,
        )[0]
        return unpack(tokens, *noisy.shape[-2:])

    def tell_guidance(self, pipeline, denoiser: nn.Module, condition: dict, scales: Tensor) -> dict:
        return dict(condition, guidance=scales.float()) if denoiser.config.guidance_embeds else condition

    def sampled_latents(self, latents: Tensor, height: int, width: int) -> Tensor:
        return unpack(latents, height // self.vae_scale, width // self.vae_scale)

    def encode_captions(self, pipeline, batch: dict) -> dict:
        captions = list(batch["caption"])
        length, device = self.max_sequence_length, pipeline.text_encoder.device
        options = dict(prompt=captions, prompt_2=captions, device=device, max_sequence_length=length)
        prompts, pooled, _ = encode_prompt(pipeline, captions, pipeline.tokenizer_2, length, **options)
        return dict(encoder_hidden_states=prompts, pooled_projections=pooled)
