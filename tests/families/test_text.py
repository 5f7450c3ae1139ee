"""A caption that is cut is reported: what the text encoder never saw cannot be learnt."""

import pytest
import tiny
import torch
from tiny_transformers import write_pixart
from transformers import CLIPTextModel

from diffdistill.families import text
from diffdistill.registry import MODELS


@pytest.fixture
def encode(monkeypatch):
    monkeypatch.setattr(text, "_cut", set())
    text.warn_once.cache_clear()
    tokens = tiny.tokenizer(max_length=8)
    encoder = CLIPTextModel(tiny.text_config(tokens)).eval()
    return lambda *captions: text.encode(tokens, encoder, captions)


def test_a_caption_that_is_cut_is_named_once_with_what_is_lost(encode, caplog):
    caption = "a photo of sks dog and a red circle"
    for _ in range(3):
        encode("a red circle", caption)
    assert caplog.messages == [
        f"warning: caption {caption!r} has 11 tokens and the tokenizer takes 8: 'a red circle' is cut off"
    ]


def test_a_caption_that_just_fits_is_not_reported(encode, caplog):
    encode("a photo of sks dog and", "")  # six words, and a token at either end
    assert not caplog.messages


def test_of_many_long_captions_the_first_are_named(encode, caplog):
    encode(*(f"{word} dog dog dog dog dog dog" for word in tiny.WORDS))
    assert len(caplog.messages) == text.NAMED + 1
    assert "more captions are longer" in caplog.messages[-1]


def test_the_report_changes_nothing(encode):
    long = "a photo of sks dog and a red circle"
    torch.testing.assert_close(encode(long)[0], encode("a photo of sks dog and")[0], rtol=0, atol=0)


def test_transformers_report_it_too_and_the_pipeline_does_not(monkeypatch, tmp_path, caplog, capfd):
    monkeypatch.setattr(text, "_cut", set())
    text.warn_once.cache_clear()
    family = MODELS.build(dict(type="PixArtSigma", checkpoint=str(write_pixart(tmp_path)), max_sequence_length=4))
    pipeline = family.load(torch.float32)
    for _ in range(2):
        family.encode_captions(pipeline, dict(caption=["a large red circle and a dog", "a dog"]))
    assert len(caplog.messages) == 1
    assert "and the tokenizer takes 4" in caplog.messages[0]
    assert "truncated" not in capfd.readouterr().err
