"""Students cut from tiny teachers of the real topology, loaded back by plain diffusers."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from diffdistill.config.read import find_config, load_config
from diffdistill.students.cut import LayerMap, plan_student

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_student.py"


def make(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", [TOOL.name, *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")


@pytest.mark.parametrize(
    ("config", "teacher"),
    [
        ("bk_sdm_base_distill_from_sd_14_laion_212k", "tiny_sd"),
        ("bk_sdm_small_distill_from_sd_14_laion_212k", "tiny_sd"),
        ("bk_sdm_tiny_distill_from_sd_14_laion_212k", "tiny_sd"),
        ("bk_sdm_v2_base_distill_from_sd_21_laion_212k", "tiny_sd_v"),
        ("bk_sdm_v2_small_distill_from_sd_21_laion_212k", "tiny_sd_v"),
        ("bk_sdm_v2_tiny_distill_from_sd_21_laion_212k", "tiny_sd_v"),
        ("sd_small_distill_from_realistic_vision_4_laion_art", "tiny_sd"),
        ("sd_tiny_distill_from_realistic_vision_4_laion_art", "tiny_sd"),
        ("small_sd_xl_pokemon_blip", "tiny_sdxl"),
        ("tiny_sd_xl_pokemon_blip", "tiny_sdxl"),
        ("ssd_1b_distill_from_sdxl_pokemon_blip", "tiny_sdxl"),
        ("ssd_1b_distill_pokemon_blip", "tiny_sdxl"),
        ("vega_distill_from_sdxl_pokemon_blip", "tiny_sdxl"),
        ("koala_1b_distill_from_sdxl_turbo_laion_pop", "tiny_sdxl"),
        ("koala_700m_distill_from_sdxl_turbo_laion_pop", "tiny_sdxl"),
    ],
)
def test_student_loads_in_plain_diffusers_with_its_teachers_tensors(config, teacher, request, monkeypatch, tmp_path):
    folder, out = request.getfixturevalue(teacher), tmp_path / "unet"
    make(monkeypatch, config, out, "--from", folder)
    student, info = UNet2DConditionModel.from_pretrained(out, output_loading_info=True)
    assert not [problem for problem, names in info.items() if names]
    alone = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    assert alone.config.down_block_types == student.config.down_block_types
    source = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    layers = plan_student(UNet2DConditionModel, source.config, load_config(config).model.student.keep)[1]
    assert_copied(student, source, layers)


def assert_copied(student, source, layers: LayerMap) -> None:
    tensors = source.state_dict()
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(tensor, tensors[layers.to_teacher(name)], rtol=0, atol=0)


def test_vega_cut_from_a_cut_ssd_1b_is_the_one_cut_from_sdxl(tiny_sdxl, monkeypatch, tmp_path):
    """The chain SDXL -> SSD-1B -> Vega loses nothing: all 564 tensors of Vega have a source in SSD-1B."""
    middle = tmp_path / "ssd_1b"
    shutil.copytree(tiny_sdxl, middle, ignore=lambda folder, names: {"unet"} & set(names))
    make(monkeypatch, "ssd_1b_distill_from_sdxl_pokemon_blip", middle / "unet", "--from", tiny_sdxl)
    make(monkeypatch, "vega_distill_from_ssd_1b_pokemon_blip", tmp_path / "chain", "--from", middle)
    make(monkeypatch, "vega_distill_from_sdxl_pokemon_blip", tmp_path / "direct", "--from", tiny_sdxl)
    chain, direct = (UNet2DConditionModel.from_pretrained(tmp_path / name).state_dict() for name in ("chain", "direct"))
    assert len(chain) == 564
    torch.testing.assert_close(chain, direct, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{out}", "--from", "{folder}/nowhere"], "model.teacher.checkpoint={folder}/nowhere: no such folder"),
        (["{out}", "--from", "{folder}/unet"], "model.teacher.checkpoint={folder}/unet: the folder has no model_index.json"),
        (["{folder}", "--from", "{folder}"], "{folder} is not empty; name a new folder"),
        (
            ["{out}", "--from", "{folder}", "--cfg-options", "model.student.keep.down_blocks=[7]"],
            "student.keep['down_blocks'] = [7]: down_blocks has layers 0 to 2",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message, tiny_sdxl, monkeypatch, tmp_path, capsys):
    names = dict(out=tmp_path / "unet", folder=tiny_sdxl)
    with pytest.raises(SystemExit) as stop:
        make(monkeypatch, find_config("tiny_sd_xl_pokemon_blip"), *(text.format(**names) for text in arguments))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: " + message.format(**names))
    assert error.count("\n") == 1
    assert not (tmp_path / "unet").exists()
