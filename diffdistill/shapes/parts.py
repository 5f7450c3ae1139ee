"""Untrained UNets of the shapes benchmark, and whole pipelines around them.

Classes and wiring are those of Stable Diffusion 1.x and SDXL, so that whatever works here works on the real ones; only the
widths differ. Nothing is downloaded.
"""

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from diffdistill.shapes.text_encoder import HIDDEN
from diffdistill.shapes.vocabulary import tokenizer


def make_unet(layout: str, seed: int = 0) -> UNet2DConditionModel:
    """An untrained UNet: 3.97 M parameters for "sdxl", 3.13 M for "sd"."""
    blocks = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]  # SDXL attends in its deep stages
    config = dict(
        block_out_channels=(32, 64, 64),
        transformer_layers_per_block=(1, 2, 3),
        attention_head_dim=(2, 4, 4),
        cross_attention_dim=2 * HIDDEN,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=HIDDEN + 6 * 8,
    )
    if layout == "sd":
        blocks = blocks[::-1]  # SD 1.x in its shallow ones
        config = dict(block_out_channels=(32, 64, 96), attention_head_dim=4, cross_attention_dim=HIDDEN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=8,
            down_block_types=tuple(blocks),
            up_block_types=tuple(block.replace("Down", "Up") for block in reversed(blocks)),
            layers_per_block=2,
            norm_num_groups=8,
            **config,
        )


def make_pipeline(
    layout: str,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection | None = None,
    seed: int = 0,
) -> DiffusionPipeline:
    """A complete pipeline with an untrained UNet; `text_encoder_2` belongs to the "sdxl" layout alone."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="trailing"
    )
    shared = {
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer(),
        "unet": make_unet(layout, seed),
        "scheduler": scheduler,
    }
    if layout == "sd":
        return StableDiffusionPipeline(**shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    return StableDiffusionXLPipeline(
        **shared,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
