"""Pipelines of known architectures with random weights: right in size and type, and no more memory than they need."""

import diffusers
import pytest
import tiny_transformers
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CLIPTokenizer

from diffdistill.benchmarks.random_weights import random_model, random_pipeline, stand_in_tokenizer, word_tokenizer
from diffdistill.families.architectures import planning
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_pipeline


class Allocations(TorchDispatchMode):
    """The sizes in bytes of all tensors that operations make."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and "empty" in str(function):
            self.sizes.append(result.numel() * result.element_size())
        return result


@pytest.fixture
def config(thin_sdxl):
    return diffusers.UNet2DConditionModel.load_config(thin_sdxl / "unet")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_made_once_and_in_their_dtype(config, dtype):
    with Allocations() as made:
        model = random_model("diffusers", "UNet2DConditionModel", config, dtype, "cpu")
    weights = list(model.parameters())
    assert {weight.dtype for weight in weights} == {dtype}
    assert sum(made.sizes) == 2 * sum(weight.numel() for weight in weights)
    assert torch.get_default_dtype() == torch.float32
    assert all(torch.isfinite(weight).all() for weight in weights)
    assert not any(weight.requires_grad for weight in weights)
    assert model.conv_in.weight.unique().numel() > 20  # not what the memory happened to hold


def test_weights_are_the_same_every_time_and_leave_the_random_state_alone(config):
    state = torch.get_rng_state()
    models = [random_model("diffusers", "UNet2DConditionModel", config, torch.float32, "cpu") for _ in range(2)]
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("name", "pipeline_class", "encoders"),
    [
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "StableDiffusionPipeline", [123_060_480]),
        ("stabilityai/stable-diffusion-xl-base-1.0", "StableDiffusionXLPipeline", [123_060_480, 694_659_840]),
        (
            "stabilityai/stable-diffusion-3-medium-diffusers",
            "StableDiffusion3Pipeline",
            [123_650_304, 694_659_840, 4_762_310_656],
        ),
        ("black-forest-labs/FLUX.1-dev", "FluxPipeline", [123_060_480, 4_762_310_656]),
    ],
)
def test_a_known_pipeline_is_whole_without_a_download(name, pipeline_class, encoders):
    with planning():
        pipeline = random_pipeline(Checkpoint(name, "source"), torch.float16, "meta", dict(unet=None, transformer=None))
    assert type(pipeline).__name__ == pipeline_class
    models = [part for key, part in pipeline.components.items() if key.startswith("text_encoder")]
    assert [sum(weight.numel() for weight in model.parameters()) for model in models] == encoders
    assert pipeline.vae_scale_factor == 8
    assert pipeline.tokenizer.model_max_length == 77


@pytest.mark.parametrize(
    ("name", "pipeline_class", "encoder", "pixels"),
    [
        ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", "PixArtSigmaPipeline", 4_762_310_656, 8),
        ("Efficient-Large-Model/Sana_1600M_1024px_diffusers", "SanaPipeline", 2_614_341_888, 32),
        ("Qwen/Qwen-Image", "QwenImagePipeline", 8_292_166_656, 8),
    ],
)
def test_other_tokenizers_have_a_token_for_every_word(name, pipeline_class, encoder, pixels):
    with planning():
        pipeline = random_pipeline(Checkpoint(name, "source"), torch.float16, "meta", dict(transformer=None))
    assert type(pipeline).__name__ == pipeline_class
    assert sum(weight.numel() for weight in pipeline.text_encoder.parameters()) == encoder
    assert pipeline.vae_scale_factor == pixels
    tokens = pipeline.tokenizer(["a large dog", "a dog"], padding="max_length", max_length=9, return_tensors="pt")
    assert tokens.attention_mask.sum(1).tolist() == [4, 3]  # words, and the end


def test_a_pipeline_with_a_stand_in_is_saved_and_loaded(tmp_path):
    """As the benchmark of a training step does."""
    tokens = word_tokenizer()
    folder = tiny_transformers.write_sd3(tmp_path, t5=True)
    load_pipeline(Checkpoint(str(folder), "source"), tokenizer_3=tokens).save_pretrained(tmp_path / "again")
    pipeline = load_pipeline(Checkpoint(str(tmp_path / "again"), "source"))
    assert pipeline.tokenizer_3("a dog").input_ids == tokens("a dog").input_ids == [2, 2, 1]
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a dog", num_inference_steps=1).images[0].size == (32, 32)


def test_pictures_come_out_of_a_pipeline_with_random_weights(tiny_sd):
    """With the folder's own tokenizer and scheduler."""
    pipeline = random_pipeline(Checkpoint(str(tiny_sd), "source"), torch.float32, "cpu")
    pipeline.set_progress_bar_config(disable=True)
    assert type(pipeline.scheduler) is diffusers.PNDMScheduler
    assert pipeline("a red circle", num_inference_steps=1).images[0].size == (32, 32)


def test_the_stand_in_tokenizer_pads_as_clips_does():
    tokenizer = stand_in_tokenizer("CLIPTokenizer", dict(vocab_size=49408, max_position_embeddings=77))
    assert isinstance(tokenizer, CLIPTokenizer)
    ids = tokenizer(["a dog", "x" * 200], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ids.shape == (2, 77)
    assert ids[:, 0].tolist() == [49406, 49406]
    assert ids[:, -1].tolist() == [49407, 49407]
    assert len(tokenizer) == 49408
