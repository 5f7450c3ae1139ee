"""Pipelines around a transformer: the students that are cut from them, and those that are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from kinds import CAPTIONS, HEIGHT, WIDTH

from diffdistill.errors import InputError
from diffdistill.families import PixArtSigma
from diffdistill.families.reading import check_resolution
from diffdistill.families.saving import save_pipeline
from diffdistill.students.cut import module_lists
from diffdistill.students.weights import make_student

KEPT = {  # without a layer in the middle
    "sd3": {"transformer_blocks": [0, 3]},
    "flux": {"transformer_blocks": [0, 2], "single_transformer_blocks": [1, 3]},
    "pixart": {"transformer_blocks": [0, 2]},
    "sana": {"transformer_blocks": [0, 2]},
    "qwen": {"transformer_blocks": [0, 2]},
}


@pytest.mark.parametrize("width", [HEIGHT, WIDTH], ids=["native", "wide"])
def test_keeping_every_layer_changes_nothing(loaded, width):
    student, _ = make_student(loaded.denoiser, {})
    condition, latents = loaded.encode(CAPTIONS), loaded.noise(width)
    ours, theirs = (loaded.predict(each, condition, latents=latents) for each in (student.eval(), loaded.denoiser))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", KEPT)
def test_a_student_of_half_the_depth_is_a_pipeline_of_diffusers(load, name, tmp_path):
    loaded, keep = load(name), KEPT[name]
    student, layers = make_student(loaded.denoiser, keep)
    assert {path: len(indices) for path, indices in keep.items()}.items() <= module_lists(student).items()
    save_pipeline(loaded.family.assemble(loaded.pipeline, student), tmp_path)
    found, info = type(student).from_pretrained(tmp_path / "transformer", output_loading_info=True)
    assert not any(info.values())
    theirs = loaded.denoiser.state_dict()
    for tensor, value in found.state_dict().items():
        assert torch.equal(value, theirs[layers.to_teacher(tensor)]), tensor
    plain = loaded.family.pipeline_class.from_pretrained(tmp_path, **loaded.given)
    plain.set_progress_bar_config(disable=True)
    pictures = loaded.draw(kind="np", plain=plain)
    assert np.isfinite(pictures).all()
    assert np.abs(pictures - loaded.draw(kind="np")).max() > 0.01


# What is refused


@pytest.fixture(params=["sd3", "flux", "pixart", "sana", "qwen"])
def copied(request, load, tmp_path):
    """A family's class, and a copy of its pipeline to be spoilt."""
    loaded = load(request.param)
    return type(loaded.family), shutil.copytree(loaded.folder, tmp_path / "pipeline")


def rewrite(file, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refusal(family_class, folder) -> str:
    with pytest.raises(InputError) as caught:
        family_class(checkpoint=str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_encoder_is_missed(copied):
    family_class, folder = copied
    rewrite(folder / "model_index.json", text_encoder=[None, None])
    assert f"without text_encoder; model.teacher.type {family_class.__name__} needs" in refusal(family_class, folder)


def test_noise_of_the_other_kind_is_refused(copied):
    family_class, folder = copied
    flows = family_class is not PixArtSigma
    name = "DDIMScheduler" if flows else "FlowMatchEulerDiscreteScheduler"
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(_class_name=name)))
    assert f"is of a {name}, which" in refusal(family_class, folder)


def test_a_picture_must_split_into_tokens(loaded):
    side = loaded.family.vae_scale * loaded.family.patch
    check_resolution(loaded.family, HEIGHT, WIDTH, "here")
    with pytest.raises(
        InputError, match=f"here: pictures of {32 + side // 2} x 32 do not split .* {side} pixels wide"
    ) as caught:
        check_resolution(loaded.family, 32 + side // 2, 32, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config", [dict(use_additional_conditions=True), dict(use_additional_conditions=None, sample_size=128)]
)
def test_pixart_alpha_of_1024_pixels_is_refused(load, tmp_path, config):
    folder = shutil.copytree(load("pixart").folder, tmp_path / "pipeline")
    rewrite(folder / "transformer" / "config.json", **config)
    assert "told the size of the picture" in refusal(PixArtSigma, folder)
