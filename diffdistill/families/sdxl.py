"""Stable Diffusion XL (Podell et al., 2023): two text encoders, a pooled embedding, conditioning on picture sizes."""

from typing import ClassVar

import diffusers
import torch

from diffdistill.errors import InputError
from diffdistill.families.text import encode
from diffdistill.families.unet import UNetFamily
from diffdistill.registry import MODELS


@MODELS.register_module()
class StableDiffusionXL(UNetFamily):
    """Pipelines of diffusers' `StableDiffusionXLPipeline`.

    A batch carries `time_ids` (B, 6): original height and width, crop top and left, target height and width (sec. 2.2).
    """

    pipeline_class = diffusers.StableDiffusionXLPipeline
    models = ("vae", "text_encoder", "text_encoder_2")
    load_options: ClassVar = dict(feature_extractor=None, image_encoder=None, add_watermarker=False)
    normalises_latents = True
    of_picture = ("time_ids",)
    addition = "text_time"

    @property
    def text_options(self) -> dict:
        zeros = self.checkpoint.read_json("model_index.json").get("force_zeros_for_empty_prompt", True)
        return dict(super().text_options, force_zeros_for_empty_prompt=zeros)

    def encode_captions(self, pipeline, batch: dict) -> dict:
        """The conditioning from both text encoders and the batch's `time_ids`. Raises InputError where it has none."""
        if "time_ids" not in batch:
            raise InputError(
                "train_dataloader.dataset: StableDiffusionXL needs `time_ids` in its items; add PackInputs to the pipeline"
            )
        captions = list(batch["caption"])
        first = encode(pipeline.tokenizer, pipeline.text_encoder, captions)
        second = encode(pipeline.tokenizer_2, pipeline.text_encoder_2, captions)
        # Both contexts are taken before the last layer; the pooled embedding is the second encoder's (sec. 2.1).
        prompts = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        pooled = second.text_embeds
        if pipeline.config.force_zeros_for_empty_prompt:
            # The pipeline's unconditional branch is zeros, so that is what an empty caption must mean in training.
            given = torch.tensor([bool(caption) for caption in captions], device=prompts.device)
            prompts = torch.where(given[:, None, None], prompts, 0)
            pooled = torch.where(given[:, None], pooled, 0)
        # In bf16 sizes beyond 256 lose their last digits, so the ids stay in fp32.
        return dict(
            encoder_hidden_states=prompts, added_cond_kwargs=dict(text_embeds=pooled, time_ids=batch["time_ids"].float())
        )

    def condition_at(self, pipeline, captions: list[str], height: int, width: int) -> dict:
        time_ids = torch.tensor([[height, width, 0, 0, height, width]], device=pipeline.text_encoder.device)
        return self.encode_captions(pipeline, dict(caption=captions, time_ids=time_ids.repeat(len(captions), 1)))

    def replace_captions(self, pipeline, condition: dict, captions: list[str]) -> dict:
        return self.encode_captions(pipeline, dict(caption=captions, time_ids=condition["added_cond_kwargs"]["time_ids"]))
