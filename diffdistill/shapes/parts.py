"""Untrained denoisers of the shapes benchmark, and whole pipelines around them.

Classes and wiring are those of Stable Diffusion 1.x, SDXL and SD3, so that whatever works here works on the real ones; only
the widths differ. Nothing is downloaded.
"""

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
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


def make_transformer(seed: int = 0) -> SD3Transformer2DModel:
    """An untrained transformer of the SD3 class: 6 blocks of width 128, 2 x 2 latents a token, 3.47 M parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=6,
            attention_head_dim=32,
            num_attention_heads=4,
            joint_attention_dim=2 * HIDDEN,
            caption_projection_dim=128,
            pooled_projection_dim=2 * HIDDEN,
            pos_embed_max_size=4,
        )


def with_projection(encoder: CLIPTextModel) -> CLIPTextModelWithProjection:
    """The same text encoder in the class that SD3 takes; its projection of the pooled output changes nothing."""
    projected = CLIPTextModelWithProjection(encoder.config)
    nn.init.eye_(projected.text_projection.weight.data)
    weights = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in encoder.state_dict().items()}
    projected.load_state_dict(weights | {"text_projection.weight": projected.text_projection.weight})
    return projected.to(encoder.dtype).requires_grad_(False).eval()


def make_pipeline(
    layout: str,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    text_encoder_2: CLIPTextModelWithProjection | None = None,
    seed: int = 0,
) -> DiffusionPipeline:
    """A complete pipeline with an untrained denoiser; "sdxl" and "sd3" have a `text_encoder_2`, "sd" has none."""
    if layout == "sd3":
        vae.register_to_config(shift_factor=0.0)  # which that pipeline reads
        return StableDiffusion3Pipeline(
            vae=vae,
            text_encoder=with_projection(text_encoder),
            text_encoder_2=text_encoder_2,
            text_encoder_3=None,
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            tokenizer_3=None,
            transformer=make_transformer(seed),
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )
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
