"""Tiny but real diffusers pipelines whose denoiser is a transformer, written to disk as `tiny` writes those with a U-Net.

The parts, their wiring and their conditioning are those of the published models; depths, widths and vocabularies are not.
Pictures have 32 pixels. Weights are seeded. `changes` replace entries of the denoiser's config.
"""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tiny import WIDTH, _save, text_config, tokenizer, vae
from tiny_text import HEAD, HEADS, gemma, gemma_tokenizer, qwen, qwen_tokenizer, t5_encoder, t5_tokenizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection

HEADED = {"num_attention_heads": HEADS, "attention_head_dim": HEAD}
ROPE = (4, 6, 6)  # channels of a head for the frame, the row and the column


def vae16(**config) -> AutoencoderKL:
    """Of 16 channels, as SD3 and FLUX have it; a picture of 32 pixels becomes a latent of 16."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=16,
        norm_num_groups=4,
        sample_size=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **config,
    ).eval()


def deep_compression_vae() -> AutoencoderDC:
    """SANA's, of 8 channels; a picture of 32 pixels becomes a latent of 8."""
    return AutoencoderDC(
        latent_channels=8,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 16),
        decoder_block_out_channels=(8, 8, 16),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        scaling_factor=0.41407,
    ).eval()


def qwen_vae() -> AutoencoderKLQwenImage:
    """Qwen-Image's, which is one for videos, of 16 channels; a picture of 32 pixels becomes a latent of 8."""
    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 2], num_res_blocks=1, temperal_downsample=[False, True]
    ).eval()


def write_sd3(folder: str | Path, seed: int = 0, t5: bool = False, **changes) -> Path:
    """Write a `StableDiffusion3Pipeline` to `folder`; without its third text encoder, diffusers must be told so to load it.

    SD 3.5 differs by `qk_norm="rms_norm"`, its medium size by `dual_attention_layers=(0, 1)` as well.
    """
    one, two, three = tokenizer(), tokenizer(pad_token="!"), t5_tokenizer() if t5 else None
    options = {"num_layers": 4, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusion3Pipeline(
            vae=vae16(scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=CLIPTextModelWithProjection(text_config(one)).eval(),
            text_encoder_2=CLIPTextModelWithProjection(text_config(two)).eval(),
            text_encoder_3=t5_encoder(three, width=4 * WIDTH) if t5 else None,
            tokenizer=one,
            tokenizer_2=two,
            tokenizer_3=three,
            transformer=SD3Transformer2DModel(
                **HEADED,
                sample_size=16,
                joint_attention_dim=4 * WIDTH,  # twice that of both CLIP encoders, which are padded to it
                caption_projection_dim=HEADS * HEAD,
                pooled_projection_dim=2 * WIDTH,
                pos_embed_max_size=24,
                **options,
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    return _save(pipeline, folder)


def write_flux(folder: str | Path, seed: int = 0, guidance: bool = True, **changes) -> Path:
    """Write a `FluxPipeline` to `folder`: of the kind of FLUX.1-dev, or of schnell, which embeds no guidance scale."""
    one, two = tokenizer(), t5_tokenizer()
    dynamic = dict(shift=3.0, use_dynamic_shifting=True)
    options = {"num_layers": 3, "num_single_layers": 4, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = FluxPipeline(
            vae=vae16(scaling_factor=0.3611, shift_factor=0.1159),
            text_encoder=CLIPTextModel(text_config(one)).eval(),
            text_encoder_2=t5_encoder(two),
            tokenizer=one,
            tokenizer_2=two,
            transformer=FluxTransformer2DModel(
                **HEADED,
                joint_attention_dim=WIDTH,
                pooled_projection_dim=WIDTH,
                guidance_embeds=guidance,
                axes_dims_rope=ROPE,
                **options,
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(**dynamic if guidance else {}),
        )
    return _save(pipeline, folder)


def write_pixart(folder: str | Path, seed: int = 0, **changes) -> Path:
    """Write a `PixArtSigmaPipeline` to `folder`; its denoiser predicts a variance, too."""
    tokens = t5_tokenizer()
    options = {"num_layers": 4, "sample_size": 16, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = PixArtSigmaPipeline(
            vae=vae(scaling_factor=0.13025, force_upcast=True),
            text_encoder=t5_encoder(tokens),
            tokenizer=tokens,
            transformer=PixArtTransformer2DModel(
                **HEADED,
                in_channels=4,
                out_channels=8,
                cross_attention_dim=HEADS * HEAD,
                caption_channels=WIDTH,
                use_additional_conditions=False,
                **options,
            ).eval(),
            scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        )
    return _save(pipeline, folder)


def write_sana(folder: str | Path, seed: int = 0, **changes) -> Path:
    """Write a `SanaPipeline` to `folder`; SANA-1.5 differs by `qk_norm="rms_norm_across_heads"`."""
    tokens = gemma_tokenizer()
    options = {"num_layers": 4, "sample_size": 8, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = SanaPipeline(
            vae=deep_compression_vae(),
            text_encoder=gemma(tokens),
            tokenizer=tokens,
            transformer=SanaTransformer2DModel(
                **HEADED,
                in_channels=8,
                out_channels=8,
                num_cross_attention_heads=HEADS,
                cross_attention_head_dim=HEAD,
                cross_attention_dim=HEADS * HEAD,
                caption_channels=WIDTH,
                **options,
            ).eval(),
            scheduler=DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        )
    return _save(pipeline, folder)


def write_qwen(folder: str | Path, seed: int = 0, **changes) -> Path:
    """Write a `QwenImagePipeline` to `folder`."""
    tokens = qwen_tokenizer()
    options = {"num_layers": 4, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = QwenImagePipeline(
            vae=qwen_vae(),
            text_encoder=qwen(tokens),
            tokenizer=tokens,
            transformer=QwenImageTransformer2DModel(
                **HEADED, joint_attention_dim=WIDTH, axes_dims_rope=ROPE, **options
            ).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(
                use_dynamic_shifting=True, max_image_seq_len=8192, max_shift=0.9, shift_terminal=0.02
            ),
        )
    return _save(pipeline, folder)
