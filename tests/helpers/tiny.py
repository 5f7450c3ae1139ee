"""Tiny but real diffusers pipelines and captioned pictures, written to disk.

The topology (stages, blocks, layers, attention, conditioning) is that of the published models; the widths are not. So a keep
list of the real model applies unchanged, and a pipeline loads by the path that users take. Weights are seeded.
"""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
)

try:
    from transformers import CLIPImageProcessorPil
except ImportError:  # older versions call it so, and have no other without torchvision
    from transformers import CLIPImageProcessor as CLIPImageProcessorPil

WIDTH = 32  # of each text encoder
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
COLOURS = ["red", "green", "blue", "yellow"]
SHAPES = ["circle", "square", "triangle"]
WORDS = ["a", "photo", "of", "the", "and", "small", "large", "dog", "sks", *COLOURS, *SHAPES]


def tokenizer(pad_token: str = EOS, max_length: int = 77) -> CLIPTokenizer:
    """A CLIP tokenizer of printable ASCII, in which each of `WORDS` is one token."""
    characters = [chr(code) for code in range(33, 127)]  # "!" comes first, as in CLIP's own vocabulary
    tokens = characters + [character + "</w>" for character in characters]
    merges = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:  # from the right, so that a longer word cannot be broken by a shorter one's merges
            merges.append((pieces[-2], pieces[-1]))
            pieces[-2:] = ["".join(pieces[-2:])]
    merges = list(dict.fromkeys(merges))
    tokens = list(dict.fromkeys(tokens + ["".join(pair) for pair in merges])) + [BOS, EOS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=max_length)


def text_config(tokens: CLIPTokenizer) -> CLIPTextConfig:
    """Two layers, `WIDTH` wide. Pooling looks for the end token, so its id must be the tokenizer's."""
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokens.model_max_length,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )


def vae(scaling_factor: float, force_upcast: bool) -> AutoencoderKL:
    """One downsampling: a picture of 32 pixels becomes a latent of 16."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=scaling_factor,
        force_upcast=force_upcast,
    ).eval()


def sdxl_unet(**changes) -> UNet2DConditionModel:
    """SDXL's denoiser with widths 8/16/32 in place of 320/640/1280; `changes` replace entries."""
    options = dict(
        sample_size=16,
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 10),
        block_out_channels=(8, 16, 32),
        attention_head_dim=(1, 2, 4),
        cross_attention_dim=2 * WIDTH,
        norm_num_groups=4,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )
    return UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        use_linear_projection=True,
        addition_embed_type="text_time",
        **options | changes,
    ).eval()


def sd_unet(**changes) -> UNet2DConditionModel:
    """SD 1.x's denoiser with widths 8/16/32/32 in place of 320/640/1280/1280; `changes` replace entries."""
    options = {"attention_head_dim": 2, **changes}
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 32, 32),
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
        **options,
    ).eval()


def write_sdxl(folder: str | Path, seed: int = 0, **changes) -> Path:
    """Write a `StableDiffusionXLPipeline` of 32-pixel pictures to `folder`; `changes` replace entries of its denoiser."""
    one, two = tokenizer(), tokenizer(pad_token="!")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionXLPipeline(
            vae=vae(scaling_factor=0.13025, force_upcast=True),
            text_encoder=CLIPTextModel(text_config(one)).eval(),
            text_encoder_2=CLIPTextModelWithProjection(text_config(two)).eval(),
            tokenizer=one,
            tokenizer_2=two,
            unet=sdxl_unet(**changes),
            scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading", steps_offset=1),
            force_zeros_for_empty_prompt=True,
            add_watermarker=False,
        )
    return _save(pipeline, folder)


def write_sd(folder: str | Path, seed: int = 0) -> Path:
    """Write a `StableDiffusionPipeline` of the SD 1.x kind (epsilon prediction) to `folder`."""
    scheduler = PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    return _write_sd(folder, seed, scheduler)


def write_sd_v(folder: str | Path, seed: int = 0) -> Path:
    """Write a `StableDiffusionPipeline` of the SD 2.x kind (v prediction, heads per stage) to `folder`."""
    scheduler = DDIMScheduler(
        **NOISE, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return _write_sd(folder, seed, scheduler, attention_head_dim=(1, 2, 4, 4), use_linear_projection=True)


def _write_sd(folder, seed, scheduler, **changes) -> Path:
    tokens = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=vae(scaling_factor=0.18215, force_upcast=False),
            text_encoder=CLIPTextModel(text_config(tokens)).eval(),
            tokenizer=tokens,
            unet=sd_unet(**changes),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return _save(pipeline, folder)


def _save(pipeline, folder) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return Path(folder)


def coordinates(width: int, height: int) -> Image.Image:
    """A picture that says where each pixel is: red is its column and green its row, both below 256; blue is 128."""
    picture = Image.new("RGB", (width, height))
    picture.putdata([(x, y, 128) for y in range(height) for x in range(width)])
    return picture


def write_captioned_folder(folder: str | Path) -> Path:
    """Write a dozen captioned pictures of different sizes and kinds, with `metadata.csv`, to `folder`.

    Among them: one rotated by its EXIF tag, a palette with a transparent colour, grey, alpha, and a JPEG.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    widths = [32, 48, 32, 40, 64, 33, 37, 32, 50, 40, 36, 90]
    heights = [32, 32, 48, 40, 33, 64, 53, 32, 40, 50, 36, 45]
    lines = ["file_name,text,score"]
    for index, size in enumerate(zip(widths, heights, strict=True)):
        colour, shape = COLOURS[index % 4], SHAPES[index % 3]
        picture, name, options = _shape(size, colour, shape), f"{index:02d}.png", {}
        if index == 2:
            options["exif"] = _exif(orientation=6)  # to be shown turned by 90 degrees
        elif index == 3:
            picture = picture.convert("P")
            options["transparency"] = 0
        elif index == 4:
            picture = picture.convert("L")
        elif index == 5:
            picture.putalpha(128)
        elif index == 6:
            name = f"{index:02d}.jpg"
        picture.save(folder / name, **options)
        lines.append(f"{name},a {colour} {shape},{index / 10}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def write_pictures(folder: Path, sizes, columns=None) -> Path:
    """Write captioned pictures of the given `sizes` (width, height), and to metadata.csv more `columns`, to `folder`."""
    folder.mkdir(exist_ok=True)
    lines = [",".join(["file_name", "text", *(columns or {})])]
    for number, size in enumerate(sizes):
        Image.new("RGB", size, (number % 256, 0, 0)).save(folder / f"{number:03d}.png")
        more = [str(values[number]) for values in (columns or {}).values()]
        lines.append(",".join([f"{number:03d}.png", f"picture {number}", *more]))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _shape(size: tuple[int, int], colour: str, shape: str) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    width, height = size
    box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
    draw = ImageDraw.Draw(picture)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(width // 2, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    return picture


def write_clip(folder: str | Path, seed: int = 0) -> Path:
    """Write a `CLIPModel` of 32-pixel pictures with its tokenizer and image processor to `folder`."""
    tokens = tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    config = CLIPConfig(text_config=text_config(tokens).to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        CLIPModel(config).save_pretrained(folder)
    tokens.save_pretrained(folder)
    _image_processor().save_pretrained(folder)
    return Path(folder)


def write_dino(folder: str | Path, seed: int = 0) -> Path:
    """Write a `Dinov2Model` of 32-pixel pictures with its image processor to `folder`."""
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        Dinov2Model(config).save_pretrained(folder)
    _image_processor().save_pretrained(folder)
    return Path(folder)


def _image_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
