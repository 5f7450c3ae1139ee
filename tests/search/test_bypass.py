"""Leaving layers out where they stand."""

import pytest
import tiny
import torch
from diffusers import SD3Transformer2DModel

from diffdistill.search.bypass import layers_of, removable, without
from diffdistill.students.cut import build_on_meta
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.weights import make_student


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return tiny.sd_unet().eval()


def outputs(denoiser):
    torch.manual_seed(1)
    inputs = rules_of(type(denoiser)).inputs(denoiser.config)
    filled = {key: torch.randn(v.shape) if torch.is_tensor(v) and v.is_floating_point() else v for key, v in inputs.items()}
    with torch.no_grad():
        return denoiser(**filled, return_dict=False)[0]


def test_a_bypassed_cut_is_the_student_without_those_layers(unet):
    """BK-SDM-Small's cut: one ResNet and attention of every down stage, two of every up stage, no mid block."""
    keep = {
        "down_blocks.*.resnets": [0], "down_blocks.*.attentions": [0], "up_blocks.*.resnets": [0, 2],
        "up_blocks.*.attentions": [0, 2], "mid_block.resnets": [], "mid_block.attentions": [],
    }  # fmt: skip
    student, layers = make_student(unet, keep)
    gone = [name for name in layers_of(unet) if layers.to_student(name) is None]
    gone = [name for name in gone if not name.startswith("mid_block.")] + ["mid_block"]
    before = outputs(unet)
    with without(unet, gone):
        bypassed = outputs(unet)
    torch.testing.assert_close(bypassed, outputs(student.eval()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(bypassed, before)
    torch.testing.assert_close(outputs(unet), before, rtol=0, atol=0)


def test_a_bypassed_block_of_two_streams_hands_both_on(tiny_sd3):
    transformer = SD3Transformer2DModel.from_pretrained(tiny_sd3 / "transformer").eval()
    student, _ = make_student(transformer, {"transformer_blocks": [0, 3]})
    with without(transformer, ["transformer_blocks.1", "transformer_blocks.2"]):
        bypassed = outputs(transformer)
    torch.testing.assert_close(bypassed, outputs(student.eval()), rtol=1e-4, atol=1e-5)
    assert removable(build_on_meta(type(transformer), transformer.config)) == layers_of(transformer)


def test_what_changes_the_channels_cannot_be_left_out(unet):
    meta = build_on_meta(type(unet), unet.config)
    fixed = set(layers_of(meta)) - set(removable(meta))
    assert "down_blocks.1.resnets.0" in fixed  # twice as many channels as the stage before
    assert all(".resnets.0" in name for name in fixed)
