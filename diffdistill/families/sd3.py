"""Stable Diffusion 3 and 3.5 (Esser et al., 2024, arXiv:2403.03206): a transformer of two streams, text and picture."""

from typing import ClassVar

import diffusers
from torch import Tensor, nn

from diffdistill.families.base import Family
from diffdistill.families.text import encode_prompt
from diffdistill.registry import MODELS
from diffdistill.students.cut import build_on_meta


@MODELS.register_module()
class StableDiffusion3(Family):
    """Pipelines of diffusers' `StableDiffusion3Pipeline`, with or without the third text encoder, T5.

    Args:
        max_sequence_length: tokens of T5, in training and in sampling; without T5 so many zeros stand for them.
    """

    pipeline_class = diffusers.StableDiffusion3Pipeline
    denoiser_class = diffusers.SD3Transformer2DModel
    models = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3")
    optional = ("text_encoder_3",)
    load_options: ClassVar = dict(feature_extractor=None, image_encoder=None)

    def __init__(self, *args, max_sequence_length: int = 256, **options):
        self.max_sequence_length = max_sequence_length
        super().__init__(*args, **options)

    @property
    def call_options(self) -> dict:
        return dict(max_sequence_length=self.max_sequence_length)

    @property
    def text_length(self) -> int:
        return self.clip_length + self.max_sequence_length

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        return denoiser(noisy, timestep=timesteps, **condition, return_dict=False)[0]

    def encode_captions(self, pipeline, batch: dict) -> dict:
        if pipeline.transformer is None:  # the pipeline asks it how wide the zeros in the place of T5's tokens are
            pipeline = self.assemble(pipeline, build_on_meta(self.denoiser_class, self.denoiser_config))
        captions = list(batch["caption"])
        # Without T5, which reads furthest, the second of CLIP's tokenizers says where a caption is cut.
        t5 = (pipeline.tokenizer_3, self.max_sequence_length)
        longest = t5 if pipeline.tokenizer_3 else (pipeline.tokenizer_2, pipeline.tokenizer_2.model_max_length)
        prompts, _, pooled, _ = encode_prompt(
            pipeline,
            captions,
            *longest,
            prompt=captions,
            prompt_2=captions,
            prompt_3=captions,
            device=pipeline.text_encoder.device,
            do_classifier_free_guidance=False,
            **self.call_options,
        )
        return dict(encoder_hidden_states=prompts, pooled_projections=pooled)
