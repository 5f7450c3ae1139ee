"""Writes what the cache is measured on: reduced.py FOLDER N makes FOLDER/sdxl, an SDXL pipeline of 1/N of the width.

All widths are divided by N (UNet, VAE, both text encoders), all depths are SDXL's, weights are random, so that the share of
each part in a step is about the true one. N is 4 or 8. FOLDER/pictures holds 64 JPEG files of 640 x 512 pixels, captioned.
"""

import sys
from pathlib import Path

import numpy as np
import tiny
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

DEPTHS, WIDTHS = (12, 32), (768, 1280)  # of the text encoders


def text_config(tokens, layers: int, width: int) -> CLIPTextConfig:
    """A text encoder of that depth and width."""
    config = tiny.text_config(tokens)
    config.update(dict(
        hidden_size=width, intermediate_size=4 * width, projection_dim=width, num_hidden_layers=layers,
        num_attention_heads=width // 16,
    ))  # fmt: skip
    return config


def write_sdxl(folder: Path, part: int) -> Path:
    """Write the pipeline to `folder`, with 1 / `part` of all widths."""
    first, second = (width // part for width in WIDTHS)
    one, two = tiny.tokenizer(), tiny.tokenizer(pad_token="!")
    torch.manual_seed(0)
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL(
            block_out_channels=tuple(width // part for width in (128, 256, 512, 512)),
            norm_num_groups=32 // part,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=1024,
            scaling_factor=0.13025,
            force_upcast=False,
        ),
        text_encoder=CLIPTextModel(text_config(one, DEPTHS[0], first)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(two, DEPTHS[1], second)),
        tokenizer=one,
        tokenizer_2=two,
        unet=tiny.sdxl_unet(
            sample_size=128,
            block_out_channels=tuple(width // part for width in (320, 640, 1280)),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=first + second,
            norm_num_groups=32 // part,
            addition_time_embed_dim=64,
            projection_class_embeddings_input_dim=second + 6 * 64,
        ),
        scheduler=EulerDiscreteScheduler(**tiny.NOISE, timestep_spacing="leading", steps_offset=1),
        add_watermarker=False,
    )
    return tiny._save(pipeline, folder)


def write_pictures(folder: Path, count: int = 64) -> Path:
    """Write captioned pictures of noise that JPEG finds as hard as photographs."""
    folder.mkdir(parents=True)
    seeds, lines = np.random.default_rng(0), ["file_name,text"]
    for number in range(count):
        coarse = seeds.integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((640, 512), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.jpg", quality=90)
        lines.append(f"{number:03d}.jpg,a {tiny.COLOURS[number % 4]} {tiny.SHAPES[number % 3]} and {number} more")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


if __name__ == "__main__":
    write_sdxl(Path(sys.argv[1], "sdxl"), int(sys.argv[2]))
    write_pictures(Path(sys.argv[1], "pictures"))
