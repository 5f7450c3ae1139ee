"""What is written bears the names that every version of transformers reads."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from diffdistill.families.checkpoint import ASSETS
from diffdistill.families.saving import restore_names, save_model

PACKAGED = sorted(ASSETS.glob("*/text_encoder*/model.safetensors"))


def published(names) -> bool:
    """Whether these are the tensors of a published text encoder."""
    return all(name.startswith("text_model.") or name == "text_projection.weight" for name in names)


@pytest.fixture(params=["text_encoder", "text_encoder_2"])
def encoder(request, thin_sdxl):
    kind = CLIPTextModelWithProjection if request.param == "text_encoder_2" else CLIPTextModel
    return kind.from_pretrained(thin_sdxl / request.param, dtype=torch.float16)


def test_the_packaged_encoders_bear_published_names():
    assert len(PACKAGED) == 5
    for file in PACKAGED:
        tensors = load_file(file)
        assert published(tensors), file
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


@pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
def test_a_text_encoder_is_written_under_published_names(encoder, shard_size, tmp_path):
    encoder.save_pretrained(tmp_path, max_shard_size=shard_size)
    restore_names(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    names = {name: file.name for file in files for name in load_file(file)}
    assert published(names)
    if shard_size != "5GB":
        assert len(files) > 1
        assert json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"] == names
    for file in files:
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
    loaded, info = type(encoder).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    torch.testing.assert_close(loaded.state_dict(), encoder.state_dict(), rtol=0, atol=0)


def test_names_are_restored_once(encoder, tmp_path):
    save_model(encoder, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    restore_names(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_other_models_are_written_as_they_are(thin_sdxl, tmp_path):
    unet = UNet2DConditionModel.from_pretrained(thin_sdxl / "unet")
    save_model(unet, tmp_path)
    (file,) = Path(tmp_path).glob("*.safetensors")
    assert load_file(file).keys() == unet.state_dict().keys()
