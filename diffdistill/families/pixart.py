"""PixArt-Sigma (Chen et al., 2024, arXiv:2403.04692): cross-attention to T5, and variance-preserving noise."""

import diffusers
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.families.text import encode_prompt
from diffdistill.noise import VariancePreserving
from diffdistill.registry import MODELS


@MODELS.register_module()
class PixArtSigma(Family):
    """Pipelines of diffusers' `PixArtSigmaPipeline`.

    The denoiser predicts a variance as well, in channels that neither training nor any sampler of the pipeline reads.

    Args:
        max_sequence_length: tokens of T5, in training and in sampling.
    """

    pipeline_class = diffusers.PixArtSigmaPipeline
    denoiser_class = diffusers.PixArtTransformer2DModel
    noise = VariancePreserving
    models = ("vae", "text_encoder")

    def __init__(self, *args, max_sequence_length: int = 300, **options):
        self.max_sequence_length = max_sequence_length
        super().__init__(*args, **options)
        told = self.denoiser_config.get("use_additional_conditions")
        if told or (told is None and self.denoiser_config.get("sample_size", 128) == 128):  # diffusers' default
            raise InputError(
                f"{self.key}.checkpoint={self.checkpoint.name}: its denoiser is told the size of the picture"
                " (use_additional_conditions), as PixArt-alpha's of 1024 pixels; a PixArtSigmaPipeline does not tell it"
            )

    @property
    def call_options(self) -> dict:
        # Training takes captions as they are, and pictures of the size that is asked for.
        return dict(max_sequence_length=self.max_sequence_length, clean_caption=False, use_resolution_binning=False)

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        size = dict(resolution=None, aspect_ratio=None)
        prediction = denoiser(noisy, timestep=timesteps, **condition, added_cond_kwargs=size, return_dict=False)[0]
        return prediction[:, : noisy.shape[1]]

    def encode_captions(self, pipeline, batch: dict) -> dict:
        captions, length = list(batch["caption"]), self.max_sequence_length
        options = dict(prompt=captions, do_classifier_free_guidance=False, max_sequence_length=length)
        options["device"] = pipeline.text_encoder.device
        prompts, mask, _, _ = encode_prompt(pipeline, captions, pipeline.tokenizer, length, **options)
        return dict(encoder_hidden_states=prompts, encoder_attention_mask=mask)
