"""Stable Diffusion 1.x and 2.x (Rombach et al., 2022): one text encoder, the prompt as cross-attention context."""

from typing import ClassVar

import diffusers

from diffdistill.families.text import encode
from diffdistill.families.unet import UNetFamily
from diffdistill.registry import MODELS


@MODELS.register_module()
class StableDiffusion(UNetFamily):
    """Pipelines of diffusers' `StableDiffusionPipeline`, with epsilon or v-prediction."""

    pipeline_class = diffusers.StableDiffusionPipeline
    models = ("vae", "text_encoder")
    load_options: ClassVar = dict(
        safety_checker=None, requires_safety_checker=False, feature_extractor=None, image_encoder=None
    )

    def encode_captions(self, pipeline, batch: dict) -> dict:
        return dict(encoder_hidden_states=encode(pipeline.tokenizer, pipeline.text_encoder, batch["caption"])[0])
