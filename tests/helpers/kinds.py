"""Each kind of pipeline whose denoiser is a transformer, tiny: as models of this package hold it, and in plain diffusers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import tiny_transformers
import torch
from torch import Tensor, nn

from diffdistill.families import Flux, PixArtSigma, QwenImage, Sana, StableDiffusion3
from diffdistill.families.base import Family

TOKENS = 24  # of text
HEIGHT, WIDTH = 32, 64  # of pictures; their sides differ, so that none is taken for the other. SANA takes multiples of 32
CAPTIONS = ["a photo of the small yellow triangle", "a dog"]
WITHOUT_T5 = dict(text_encoder_3=None, tokenizer_3=None)
KINDS = {  # name -> family, what writes its pipeline, changes to that, what diffusers must be told to load it
    "sd3": (StableDiffusion3, tiny_transformers.write_sd3, {}, WITHOUT_T5),
    "sd3_t5": (StableDiffusion3, tiny_transformers.write_sd3, dict(t5=True), {}),
    "flux": (Flux, tiny_transformers.write_flux, {}, {}),
    "flux_schnell": (Flux, tiny_transformers.write_flux, dict(guidance=False), {}),
    "pixart": (PixArtSigma, tiny_transformers.write_pixart, {}, {}),
    "sana": (Sana, tiny_transformers.write_sana, dict(timestep_scale=0.5), {}),
    "qwen": (QwenImage, tiny_transformers.write_qwen, {}, {}),
}


@dataclass
class Loaded:
    """A pipeline of one kind.

    Attributes:
        name: of the kind.
        folder: where it was written to.
        family: of that folder.
        pipeline, denoiser: as models hold them.
        given: what diffusers must be told to load the pipeline.
        plain: the pipeline that diffusers loads.
    """

    name: str
    folder: Path
    family: Family
    pipeline: diffusers.DiffusionPipeline
    denoiser: nn.Module
    given: dict
    plain: diffusers.DiffusionPipeline

    @classmethod
    def write(cls, name: str, folder: Path) -> "Loaded":
        """Write a pipeline to `folder` and load it."""
        family_class, write, changes, given = KINDS[name]
        write(folder, **changes)
        family = family_class(checkpoint=str(folder), max_sequence_length=TOKENS)
        plain = family.pipeline_class.from_pretrained(folder, **given)
        plain.set_progress_bar_config(disable=True)
        return cls(name, folder, family, family.load(torch.float32), family.load_denoiser().eval(), given, plain)

    def draw(
        self, captions=CAPTIONS, steps=2, guidance_scale=None, kind="latent", plain=None, **options
    ) -> Tensor | np.ndarray:
        """What the plain pipeline, or another, returns as `kind` of output."""
        options = {**self.family.call_options, "height": HEIGHT, "width": WIDTH, **options}
        if not isinstance(self.family, QwenImage):  # whose pipeline takes no notice of a scale, and says so
            options["guidance_scale"] = guidance_scale or options.get("guidance_scale", 1.0)
        generator = torch.Generator().manual_seed(0)
        prompt, pipeline = list(captions), plain or self.plain
        return pipeline(prompt, num_inference_steps=steps, generator=generator, output_type=kind, **options).images

    def told(self, captions=CAPTIONS, **options) -> dict:
        """The arguments with which the plain pipeline calls its denoiser."""
        seen = {}
        hook = self.plain.transformer.register_forward_pre_hook(lambda *call: seen.update(call[2]), with_kwargs=True)
        self.draw(captions, **options)
        hook.remove()
        return seen

    @torch.no_grad()
    def encode(self, captions: Sequence[str], pipeline: diffusers.DiffusionPipeline | None = None) -> dict:
        """The conditioning in training."""
        return self.family.encode_captions(pipeline or self.pipeline, dict(caption=captions))

    def noise(self, width: int = WIDTH) -> Tensor:
        """Latents of two pictures, all noise."""
        side, vae = self.family.vae_scale, self.pipeline.vae.config
        channels = vae.get("latent_channels") or vae.z_dim
        return torch.randn(2, channels, HEIGHT // side, width // side, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def predict(self, denoiser: nn.Module, condition: dict, timesteps=(100, 900), latents=None, family=None) -> Tensor:
        """What `denoiser` predicts in training, by default at `noise`."""
        latents = self.noise() if latents is None else latents
        return (family or self.family).predict(denoiser, latents, torch.tensor(timesteps), condition)
