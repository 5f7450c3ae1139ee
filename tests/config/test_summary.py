"""The summary of a config against published sizes, counted operations and real optimizers, without any weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from mmengine.config import Config
from rich.console import Console
from transformers.optimization import Adafactor

from diffdistill.config.read import load_config
from diffdistill.config.summary import optimizer_bytes, summarize
from diffdistill.config.summary_table import print_summary
from diffdistill.errors import InputError
from diffdistill.families.architectures import FOLDER, hub_names, load_architecture, planning
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.students.cut import build_on_meta, plan_student
from diffdistill.students.size import measure

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def ssd_1b() -> dict:
    return summarize(load_config("ssd_1b_distill_from_sdxl_pokemon_blip"))


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("sd_1", 859_520_964),
        ("sd_2_base", 865_910_724),
        ("sd_2_v", 865_910_724),
        ("sdxl", 2_567_463_684),
        ("ssd_1b", 1_331_334_404),
        ("vega", 745_225_604),
    ],
)
def test_architecture_has_its_published_size(architecture, parameters):
    config = load_architecture(architecture)["unet/config.json"]
    assert build_on_meta(UNet2DConditionModel, config).num_parameters() == parameters


def test_only_sd_2_at_768_predicts_velocity():
    kinds = {
        name: load_architecture(name).get("scheduler/scheduler_config.json", {}).get("prediction_type", "epsilon")
        for name in ARCHITECTURES
    }
    assert [name for name, kind in kinds.items() if kind == "v_prediction"] == ["sd_2_v"]


def test_a_hub_name_has_one_architecture():
    entries = [json.loads((FOLDER / f"{name}.json").read_text()) for name in ARCHITECTURES]
    assert sum(len(entry["names"]) for entry in entries) == len(hub_names())


def test_only_planning_reads_an_architecture():
    """Training must see the real checkpoint's files, or none."""
    name = "CompVis/stable-diffusion-v1-4"
    with planning():
        assert Checkpoint(name, "key").read_json("unet/config.json")["cross_attention_dim"] == 768
    with pytest.raises(InputError, match="no connection"):
        Checkpoint(name, "key").read_json("unet/config.json")


def test_unknown_hub_name_without_network_is_one_line():
    config = load_config("ssd_1b_distill_from_sdxl_pokemon_blip", {"model.teacher.checkpoint": "someone/something"})
    with pytest.raises(InputError, match=r"^model.teacher.checkpoint=someone/something: [^\n]*$"):
        summarize(config)


@pytest.mark.parametrize(
    ("config", "gmacs", "without_attention"),
    [
        ("bk_sdm_base", 262, 224),
        ("bk_sdm_small", 255, 218),
        ("bk_sdm_tiny", 243, 205),
        ("small_sd_xl", 2252, 2005),
        ("tiny_sd_xl", 1853, 1635),
        ("vega", 1411, 1273),
        ("koala_1b", 1716, 1515),
        ("koala_700m", 1351, 1176),
    ],
)
def test_operations_of_published_students(config, gmacs, without_attention):
    """Counted once with another tool chain; without the attention products they are the papers' figures."""
    model = Config.fromfile(ROOT / "configs" / "_base_" / "models" / f"{config}.py").model
    teacher = load_architecture(hub_names()[model.teacher.checkpoint.lower()])["unet/config.json"]
    student = build_on_meta(UNet2DConditionModel, plan_student(UNet2DConditionModel, teacher, model.student.keep)[0])
    figures, _ = measure(student.eval())
    assert (round(figures["gmacs"]), round(figures["gmacs_without_attention"])) == (gmacs, without_attention)


def test_operations_of_sd_1():
    figures, _ = measure(build_on_meta(UNet2DConditionModel, load_architecture("sd_1")["unet/config.json"]).eval())
    assert (round(figures["gmacs"]), round(figures["gmacs_without_attention"])) == (402, 339)


def test_ssd_1b_from_sdxl(ssd_1b):
    teacher, student = ssd_1b["teacher"], ssd_1b["student"]
    assert (teacher["parameters"], student["parameters"]) == (2_567_463_684, 1_331_334_404)
    assert student["down"] + student["mid"] + student["up"] < student["parameters"]
    assert [round(figures["gmacs"]) for figures in (teacher, student)] == [3381, 2104]
    assert [round(figures["gmacs_without_attention"]) for figures in (teacher, student)] == [2989, 1854]
    assert [figures["layers"] for figures in (teacher, student)] == [
        dict(resnets=17, attentions=11, transformer_blocks=70),
        dict(resnets=16, attentions=10, transformer_blocks=34),
    ]
    assert len(ssd_1b["pairs"]) == 26
    assert ["mid_block.resnets.0", "mid_block.resnets.1"] in ssd_1b["pairs"]
    assert sum(kept for block in ssd_1b["kept"].values() for kept in block.values()) == 16 + 34
    assert list(ssd_1b["kept"]["mid_block"].items())[0::11] == [
        ("mid_block.resnets.0", True),
        ("mid_block.resnets.1", False),
    ]


def test_memory_of_ssd_1b(ssd_1b):
    """bf16, Adafactor, batch 2, no averaged weights: GB of 10^9 bytes, counted by hand from the parameters."""
    memory = {name: round(value / 1e9, 2) for name, value in ssd_1b["memory"].items()}
    assert memory.pop("total") == pytest.approx(sum(memory.values()), abs=0.03)
    assert memory == dict(
        weights=5.33, gradients=5.33, optimizer=0.89, ema=0, teacher=5.13, frozen=1.8, features=pytest.approx(1.6, abs=0.01)
    )
    assert ssd_1b["disk"] == dict(float32=4 * 1_331_334_404, float16=2 * 1_331_334_404)
    assert ssd_1b["frozen"] == dict(vae=83_653_863, text_encoder=123_060_480, text_encoder_2=694_659_840)


def test_memory_follows_the_config(tiny_sd):
    """No teacher without a loss that needs it; averaged weights where there is an EMA."""
    options = {
        "model.teacher": dict(_delete_=True, type="StableDiffusion", checkpoint=str(tiny_sd)),
        "model.losses": dict(_delete_=True, task=dict(type="TaskLoss")),
        "model.student.keep": dict(_delete_=True),
        "optim_wrapper.optimizer": dict(_delete_=True, type="AdamW"),
        "default_hooks.ema": dict(type="EMAHook"),
        "model.dtype": "float32",
    }
    config = load_config("ssd_1b_distill_from_sdxl_pokemon_blip")
    config.merge_from_dict(options)
    figures = summarize(config)
    parameters = UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").num_parameters()
    memory = figures["memory"]
    assert figures["teacher"]["parameters"] == figures["student"]["parameters"] == parameters
    assert (memory["teacher"], memory["features"], figures["pairs"]) == (0, 0, [])
    assert (memory["optimizer"], memory["ema"]) == (8 * parameters, 4 * parameters)


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.AdamW,
        lambda parameters: torch.optim.SGD(parameters, lr=1),
        lambda parameters: torch.optim.SGD(parameters, lr=1, momentum=0.9),
        torch.optim.RMSprop,
        lambda parameters: Adafactor(parameters, lr=1, relative_step=False, scale_parameter=False),
        lambda parameters: Adafactor(parameters, lr=1, relative_step=False, scale_parameter=False, beta1=0.9),
    ],
    ids=["AdamW", "SGD", "SGD-momentum", "RMSprop", "Adafactor", "Adafactor-beta1"],
)
def test_optimizer_state_is_as_large_as_the_real_one(make):
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3), torch.nn.GroupNorm(2, 6), torch.nn.Linear(5, 7))
    optimizer = make(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    real = sum(4 * tensor.numel() for tensor in tensors if tensor.ndim > 0)
    assert optimizer_bytes(dict(type=type(optimizer).__name__, **optimizer.defaults), model) == real


def test_unknown_optimizer_is_not_guessed():
    assert optimizer_bytes(dict(type="somewhere.Novel"), torch.nn.Linear(2, 2)) is None


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_the_terminal(ssd_1b, width, tmp_path):
    with (tmp_path / "out.txt").open("w+") as out:
        print_summary(ssd_1b, "ssd_1b", Console(file=out, width=width))
        out.seek(0)
        text = out.read()
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    assert "down_blocks.2  ● ■■■■□□□□□□ ● ■■■■□□□□□□" in text
    assert "1,331,334,404" in text


def test_tool_prints_json_of_a_config_by_its_name(tmp_path):
    tool = [sys.executable, ROOT / "tools" / "summary.py", "bk_sdm_tiny_distill_from_sd_14_laion_212k", "--json"]
    run = subprocess.run(tool, capture_output=True, text=True, check=True, cwd=tmp_path)
    figures = json.loads(run.stdout)
    assert figures["student"]["parameters"] == 323_384_964
    assert {"down", "mid", "up", "gmacs", "gmacs_without_attention"} <= figures["student"].keys()
    assert ["down_blocks.2.attentions.0.proj_out", "down_blocks.2.attentions.1.proj_out"] in figures["pairs"]
    assert run.stderr == ""
