"""Quantised weights on disk: stock diffusers loads them, convolutions as well, and computes what was computed here."""

import copy
import importlib.util
import json

import pytest
import tiny
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from safetensors import safe_open
from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import load_model
from diffdistill.families.packed import CONFIG, FP8, check_torchao, pack
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.quantization import LEVELS, Quantization, bake

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return tiny.sd_unet()


def output_of(denoiser):
    torch.manual_seed(0)
    inputs = rules_of(type(denoiser)).inputs(denoiser.config, 16)
    inputs = {name: torch.randn_like(each) if each.dim() > 1 else each for name, each in inputs.items()}
    with torch.no_grad():
        return denoiser(**inputs)[0]


def packed(denoiser, quantization, folder, dtype=torch.float32):
    """The output of the denoiser with quantised values, and what `pack` says; it is written to `folder`."""
    quantised = copy.deepcopy(denoiser)
    if quantization.way is None:
        bake(quantization.apply(quantised))
    expected = output_of(quantised)
    figures = pack(quantised, quantization, dtype)
    quantised.save_pretrained(folder)
    return expected, figures


@pytest.mark.parametrize("bits", LEVELS)
def test_stock_diffusers_computes_with_the_same_values(bits, unet, tmp_path):
    quantization = Quantization(bits, *([] if bits == 8 else [8]), skip=["up_blocks.1"])
    expected, figures = packed(unet, quantization, tmp_path)
    loaded = UNet2DConditionModel.from_pretrained(tmp_path, torch_dtype=torch.float32)
    torch.testing.assert_close(output_of(loaded), expected, rtol=1e-5, atol=1e-5)
    with safe_open(tmp_path / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        whole_numbers = [name for name in file.keys() if file.get_slice(name).get_dtype() == "I8"]  # noqa: SIM118
    assert len(whole_numbers) == figures["layers"] == len(quantization.layers(unet))
    assert any(".conv1." in name for name in whole_numbers)
    assert not any(name.startswith(("up_blocks.1", "conv_in", "time_embedding")) for name in whole_numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_scales_are_rounded_to_the_dtype(dtype, unet, tmp_path):
    expected, _ = packed(unet, Quantization(4, 8), tmp_path, dtype)
    loaded = UNet2DConditionModel.from_pretrained(tmp_path, torch_dtype=torch.float32)
    difference = (output_of(loaded) - expected).abs().max() / expected.std()
    assert 0 < difference < torch.finfo(dtype).eps * 5


def test_inputs_of_eight_bits_are_the_librarys(unet, tmp_path):
    """Layer by layer: over many, differences of 1e-7 are rounded to other steps of the inputs."""
    quantization = Quantization(8, activations=8)
    expected, _ = packed(unet, quantization, tmp_path)
    ours = bake(quantization.apply(copy.deepcopy(unet)))
    loaded = UNet2DConditionModel.from_pretrained(tmp_path, torch_dtype=torch.float32)
    for name, layer in quantization.layers(unet).items():
        given = (
            torch.randn(2, 5, layer.in_features) if isinstance(layer, nn.Linear) else torch.randn(1, layer.in_channels, 4, 4)
        )
        with torch.no_grad():
            outputs = [each.get_submodule(name)(given) for each in (ours, loaded)]
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    assert (output_of(loaded) - expected).abs().max() < (output_of(unet) - expected).abs().max()
    read = load_model(Checkpoint(tmp_path, "student"), UNet2DConditionModel, exact=True)
    torch.testing.assert_close(output_of(read), output_of(loaded), rtol=0, atol=0)


def test_floats_of_eight_bits_are_linear_layers(unet, tmp_path):
    _, figures = packed(unet, Quantization(8, way=FP8), tmp_path)
    assert figures["layers"] == sum(isinstance(each, nn.Linear) for each in Quantization(8).layers(unet).values())
    read = load_model(Checkpoint(tmp_path, "student"), UNet2DConditionModel, exact=True)
    difference = (output_of(read) - output_of(unet)).abs().max() / output_of(unet).std()
    assert 0 < difference < 0.05


def test_a_transformer(tiny_sd3, tmp_path):
    denoiser = SD3Transformer2DModel.from_pretrained(tiny_sd3, subfolder="transformer")
    expected, _ = packed(denoiser, Quantization(2, 8), tmp_path)
    loaded = SD3Transformer2DModel.from_pretrained(tmp_path, torch_dtype=torch.float32)
    torch.testing.assert_close(output_of(loaded), expected, rtol=1e-5, atol=1e-5)


def test_what_is_read_is_plain_again(unet, tmp_path):
    quantization = Quantization(2, 8)
    expected, _ = packed(unet, quantization, tmp_path / "packed")
    read = load_model(Checkpoint(tmp_path / "packed", "student"), UNet2DConditionModel, exact=True)
    torch.testing.assert_close(output_of(read), expected, rtol=1e-5, atol=1e-5)
    read(**rules_of(type(read)).inputs(read.config, 16)).sample.mean().backward()
    assert all(weight.grad is not None for weight in read.parameters())
    read.save_pretrained(tmp_path / "plain")
    assert CONFIG not in json.loads((tmp_path / "plain" / "config.json").read_text())
    plain = UNet2DConditionModel.from_pretrained(tmp_path / "plain")
    torch.testing.assert_close(output_of(plain), output_of(read), rtol=1e-5, atol=1e-5)


def test_without_the_library_its_extra_is_named(unet, tmp_path, monkeypatch):
    packed(unet, Quantization(8), tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'^--quantize=int8 needs torchao; run `pip install "diffdistill\[quantized\]"`$'):
        check_torchao("--quantize=int8")
    with pytest.raises(InputError, match=rf"^student={tmp_path}: its weights are quantised, and reading them needs torchao"):
        load_model(Checkpoint(tmp_path, "student"), UNet2DConditionModel)
