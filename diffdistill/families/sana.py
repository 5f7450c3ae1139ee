"""SANA (Xie et al., 2024, arXiv:2410.10629): linear attention on few tokens, each 32 x 32 pixels; Gemma 2 for text."""

import hashlib
import inspect

import diffusers
import torch
from torch import Tensor, nn

from diffdistill.families.base import Family
from diffdistill.families.reading import vae_config
from diffdistill.registry import MODELS

INSTRUCTION = inspect.signature(diffusers.SanaPipeline.__call__).parameters["complex_human_instruction"].default


@MODELS.register_module()
class Sana(Family):
    """Pipelines of diffusers' `SanaPipeline`: SANA and SANA-1.5.

    Args:
        max_sequence_length: tokens of Gemma that the denoiser sees, in training and in sampling.
    """

    pipeline_class = diffusers.SanaPipeline
    denoiser_class = diffusers.SanaTransformer2DModel
    models = ("vae", "text_encoder")

    def __init__(self, *args, max_sequence_length: int = 300, **options):
        self.max_sequence_length = max_sequence_length
        super().__init__(*args, **options)

    @property
    def vae_scale(self) -> int:
        return 2 ** (len(vae_config(self)["encoder_block_out_channels"]) - 1)

    @property
    def call_options(self) -> dict:
        # Training takes pictures of the size that is asked for; the pipeline's default is 1024 pixels for every denoiser.
        return dict(
            height=self.native_size,
            width=self.native_size,
            max_sequence_length=self.max_sequence_length,
            complex_human_instruction=INSTRUCTION,
            clean_caption=False,
            use_resolution_binning=False,
        )

    @property
    def text_options(self) -> dict:
        return dict(super().text_options, instruction=hashlib.sha256("".join(INSTRUCTION).encode()).hexdigest()[:8])

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        timesteps = timesteps * denoiser.config.timestep_scale
        return denoiser(noisy, timestep=timesteps, **condition, return_dict=False)[0]

    def encode_captions(self, pipeline, batch: dict) -> dict:
        """Each caption after the pipeline's instruction, but for an empty one.

        That stands alone, as in the pipeline's unconditional branch, so that it means the same in training.
        """
        captions = list(batch["caption"])
        condition = self._encode(pipeline, captions, INSTRUCTION)
        if all(captions):
            return condition
        given = torch.tensor([bool(caption) for caption in captions], device=condition["encoder_hidden_states"].device)
        empty = self._encode(pipeline, [""], None)
        return {
            name: torch.where(given.view(-1, *[1] * (rows.ndim - 1)), rows, empty[name]) for name, rows in condition.items()
        }

    def _encode(self, pipeline, captions: list[str], instruction: list[str] | None) -> dict:
        prompts, mask, _, _ = pipeline.encode_prompt(
            captions,
            do_classifier_free_guidance=False,
            device=pipeline.text_encoder.device,
            max_sequence_length=self.max_sequence_length,
            complex_human_instruction=instruction,
        )
        return dict(encoder_hidden_states=prompts, encoder_attention_mask=mask)
