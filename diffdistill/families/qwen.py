"""Qwen-Image (Wu et al., 2025, arXiv:2508.02324): blocks of two streams, a language model for text, a VAE of videos."""

import diffusers
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from diffdistill.families.base import Family
from diffdistill.families.flux import pack, unpack
from diffdistill.families.latents import Moments, moments
from diffdistill.families.reading import vae_config
from diffdistill.registry import MODELS


@MODELS.register_module()
class QwenImage(Family):
    """Pipelines of diffusers' `QwenImagePipeline`. A picture is a video of one frame.

    Args:
        max_sequence_length: tokens of the text, in training and in sampling.
    """

    pipeline_class = diffusers.QwenImagePipeline
    denoiser_class = diffusers.QwenImageTransformer2DModel
    models = ("vae", "text_encoder")
    sigmas_given = True
    normalises_latents = True

    def __init__(self, *args, max_sequence_length: int = 512, **options):
        self.max_sequence_length = max_sequence_length
        super().__init__(*args, **options)

    @property
    def vae_scale(self) -> int:
        return 2 ** len(vae_config(self)["temperal_downsample"])

    @property
    def call_options(self) -> dict:
        return dict(max_sequence_length=self.max_sequence_length)

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        height, width = noisy.shape[-2:]
        shape = [(1, height // self.patch, width // self.patch)]
        tokens = denoiser(
            pack(noisy), timestep=timesteps / 1000, img_shapes=[shape] * len(noisy), **condition, return_dict=False
        )[0]
        return unpack(tokens, height, width)

    def sampled_latents(self, latents: Tensor, height: int, width: int) -> Tensor:
        return unpack(latents, height // self.vae_scale, width // self.vae_scale)

    @torch.no_grad()
    def posterior(self, pipeline, pictures: Tensor) -> Moments:
        found = moments(pipeline.vae.encode(pictures.to(pipeline.vae.dtype).unsqueeze(2)))
        return {name: value.squeeze(2) for name, value in found.items()}

    def decode_unscaled(self, vae: nn.Module, latents: Tensor) -> Tensor:
        return vae.decode(latents.unsqueeze(2), return_dict=False)[0].squeeze(2)

    def encode_captions(self, pipeline, batch: dict) -> dict:
        """The text as the pipeline encodes it, padded to `max_sequence_length`; the mask leaves the padding out."""
        length = self.max_sequence_length
        prompts, mask = pipeline.encode_prompt(
            list(batch["caption"]), pipeline.text_encoder.device, max_sequence_length=length
        )
        if mask is None:  # where nothing in the batch is padding
            mask = torch.ones(prompts.shape[:2], dtype=torch.long, device=prompts.device)
        lacking = length - prompts.shape[1]
        return dict(
            encoder_hidden_states=pad(prompts, (0, 0, 0, lacking)), encoder_hidden_states_mask=pad(mask, (0, lacking))
        )
