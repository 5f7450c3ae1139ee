"""CLIPScore and PreferenceScore against transformers itself, and what they say of broken folders."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPModel

from diffdistill.errors import InputError
from diffdistill.metrics.clip_score import CLIPScore, PreferenceScore

CAPTIONS = ["a red circle", "a photo of the small dog and the large blue square", ""]
PICTURES = [np.random.default_rng(n).integers(0, 256, (48, 40, 3), dtype=np.uint8) for n in range(3)]


def measured(metric, pictures=PICTURES, captions=CAPTIONS) -> dict:
    for start in (0, 2):  # two batches of different sizes
        records = zip(pictures[start : start + 2], captions[start : start + 2], strict=True)
        metric.process(None, [dict(image=image, caption=caption) for image, caption in records])
    return metric.evaluate(len(pictures))


def by_transformers(folder, pictures=PICTURES) -> torch.Tensor:
    """Logits (B,) of each picture with its own caption, as `CLIPModel.forward` gives them, scaled."""
    model, processor = CLIPModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    inputs = processor(text=CAPTIONS, images=list(pictures), return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**inputs).logits_per_image.diag()


def test_both_are_what_transformers_says(tiny_clip):
    logits = by_transformers(tiny_clip)
    scale = CLIPModel.from_pretrained(tiny_clip).logit_scale.exp()
    assert scale > 2
    assert measured(PreferenceScore(str(tiny_clip))) == dict(preference_score=pytest.approx(logits.mean().item(), rel=1e-4))
    score = measured(CLIPScore(str(tiny_clip)))
    assert score == dict(clip_score=pytest.approx((logits / scale).mean().item(), rel=1e-4))


def test_pictures_are_resized_first(tiny_clip):
    smaller = [np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC)) for picture in PICTURES]
    found = measured(PreferenceScore(str(tiny_clip), resize=8))["preference_score"]
    assert found == pytest.approx(by_transformers(tiny_clip, smaller).mean().item(), rel=1e-4)
    assert found != pytest.approx(by_transformers(tiny_clip).mean().item(), rel=1e-4)


def test_processors_may_stand_elsewhere(tiny_clip, tmp_path):
    """As PickScore's do."""
    weights, processor = tmp_path / "weights", tmp_path / "processor"
    shutil.copytree(tiny_clip, weights, ignore=shutil.ignore_patterns("*token*", "preprocessor_config.json"))
    shutil.copytree(tiny_clip, processor, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    metric = PreferenceScore(str(weights), processor=str(processor), prefix="pick")
    assert set(measured(metric)) == {"pick/preference_score"}
    assert metric.settings() == dict(weights="weights", resize=None)


@pytest.mark.parametrize(
    ("missing", "parts"),
    [
        ("config.json", ["no config.json", "hf download"]),
        ("preprocessor_config.json", ["no preprocessor_config.json", "hf download"]),
        ("tokenizer.json", ["no tokenizer.json"]),
        ("model.safetensors", ["no weights"]),
    ],
)
def test_a_missing_file_is_named_at_once(tiny_clip, tmp_path, missing, parts):
    folder = shutil.copytree(tiny_clip, tmp_path / "half")
    (folder / missing).unlink()
    with pytest.raises(InputError) as error:
        CLIPScore(str(folder))
    assert not [part for part in [f"CLIPScore.checkpoint={folder}", *parts] if part not in str(error.value)]


def test_a_single_file_is_refused(tiny_clip):
    """As HPSv2 is published."""
    with pytest.raises(InputError, match=r"PreferenceScore\.checkpoint=.*: a single file; needed is a folder"):
        PreferenceScore(str(tiny_clip / "model.safetensors"))


def test_a_hub_name_without_a_network_says_what_to_do():
    with pytest.raises(InputError, match=r"laion/CLIP-ViT-g-14-laion2B-s34B-b88K.*config\.json.*hf download"):
        CLIPScore()


def test_a_model_without_text_is_refused(tiny_dino, tiny_clip):
    with pytest.raises(InputError, match="a dinov2 encodes no text"):
        CLIPScore(str(tiny_dino), processor=str(tiny_clip))
