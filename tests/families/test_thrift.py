"""Text encoders that save memory say nearly, or exactly, what they said before."""

import importlib.util
import sys

import pytest
import tiny_transformers
import torch
from torch import nn

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.families.thrift import is_offloaded
from diffdistill.registry import MODELS

CAPTIONS = ["a red circle", "a large blue square"]
HAS_8_BITS = importlib.util.find_spec("bitsandbytes") is not None


@pytest.fixture(scope="module")
def pixart(tmp_path_factory):
    return tiny_transformers.write_pixart(tmp_path_factory.mktemp("thrift") / "pixart")


def model(folder, thrift, **changes):
    teacher = dict(type="PixArtSigma", checkpoint=str(folder), thrift=thrift)
    losses = dict(task=dict(type="TaskLoss"), output=dict(type="OutputKD"))
    return dict(type="Distiller", teacher=teacher, losses=losses, **changes)


def encoded(distiller):
    pipeline = distiller.frozen.pipeline
    return distiller.family.encode_captions(pipeline, dict(caption=CAPTIONS))["encoder_hidden_states"]


def test_an_offloaded_encoder_says_the_same_and_is_not_moved(pixart):
    plain, offloaded = (MODELS.build(model(pixart, thrift)) for thrift in (None, "offload"))
    encoder = offloaded.frozen.pipeline.text_encoder
    assert is_offloaded(encoder)
    assert not is_offloaded(offloaded.teacher)
    assert torch.equal(encoded(plain), encoded(offloaded))
    offloaded.to("meta")
    assert {parameter.device.type for parameter in encoder.parameters()} == {"cpu"}
    assert {parameter.device.type for parameter in offloaded.teacher.parameters()} == {"meta"}


@pytest.mark.skipif(not HAS_8_BITS, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_encoder_in_8_bits_says_nearly_the_same(pixart, dtype):
    plain, short = (MODELS.build(model(pixart, thrift, dtype=dtype)) for thrift in (None, "8bit"))
    encoder = short.frozen.pipeline.text_encoder
    weights = [module.weight for module in encoder.modules() if isinstance(module, nn.Linear)]
    assert sum(weight.dtype == torch.int8 for weight in weights) > len(weights) / 2, "T5 keeps some as they are"
    ours, theirs = encoded(short).float(), encoded(plain).float()
    assert 0 < (ours - theirs).square().mean().sqrt() < 0.05 * theirs.std()
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    sum(short(mode="loss", pixel_values=pictures, caption=CAPTIONS).values()).backward()


@pytest.mark.parametrize(
    ("thrift", "message"),
    [
        ("4bit", r"model\.teacher\.thrift='4bit' is unknown; use None, '8bit' or 'offload'"),
        ("8bit", r"model\.teacher\.thrift='8bit' needs bitsandbytes; run `pip install bitsandbytes`"),
    ],
)
def test_what_cannot_be_had_is_refused(pixart, thrift, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=message):
        check_model(model(pixart, thrift))
