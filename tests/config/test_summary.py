"""The summary of a config against published sizes, counted operations and real optimizers, without any weights."""

import json
from pathlib import Path

import published
import pytest
import torch
from diffusers import UNet2DConditionModel
from rich.console import Console
from transformers.optimization import Adafactor

from diffdistill.config.memory import optimizer_bytes
from diffdistill.config.read import load_config
from diffdistill.config.summary import summarize
from diffdistill.config.table import print_summary
from diffdistill.errors import InputError
from diffdistill.families.architectures import FOLDER, hub_names, load_architecture, planning
from diffdistill.families.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = sorted(path.stem for path in FOLDER.glob("*.json"))
SIZES = (published.PARAMETERS["sdxl"], published.PARAMETERS["ssd_1b"])


@pytest.fixture(scope="module")
def ssd_1b() -> dict:
    return summarize(load_config("ssd_1b_distill_from_sdxl_pokemon_blip"))


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


def test_ssd_1b_from_sdxl(ssd_1b):
    teacher, student = ssd_1b["teacher"], ssd_1b["student"]
    assert (teacher["parameters"], student["parameters"]) == SIZES
    assert sum(student["parts"].values()) < student["parameters"]
    for name, figures in (("sdxl", teacher), ("ssd_1b", student)):
        assert (round(figures["gmacs"]), round(figures["gmacs_without_attention"])) == published.GMACS[name]
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
    """bf16, Adafactor, batch 2, no averaged weights: GB of 10^9 bytes, counted by hand from the parameters.

    Activations are those of a rehearsed step; tests/config/test_memory.py compares such with real ones.
    """
    memory = {name: round(value / 1e9, 2) for name, value in ssd_1b["memory"].items()}
    assert memory.pop("total") == pytest.approx(sum(memory.values()), abs=0.03)
    assert memory == dict(
        weights=5.33,
        critics=0,
        gradients=5.33,
        optimizer=0.89,
        ema=0,
        teacher=5.13,
        frozen=1.8,
        activations=pytest.approx(0.59, abs=0.02),
    )
    gpus = ssd_1b["fits"]["gpus"]
    assert gpus[12] is None
    assert gpus[16] == ["model.teacher.quantize=int8", "model.teacher.offload=True"]
    assert gpus[24] == gpus[48] == gpus[80] == []
    assert ssd_1b["disk"] == dict(float32=4 * SIZES[1], float16=2 * SIZES[1])
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
    assert (memory["teacher"], figures["pairs"]) == (0, [])
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


def test_8_bit_state_is_as_large_as_the_real_one():
    """Tensors of fewer than 4096 elements keep fp32 states; the tables of values are shared by all."""
    optim = pytest.importorskip("bitsandbytes").optim
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3), torch.nn.Linear(64, 80), torch.nn.Linear(128, 128))
    optimizer = optim.AdamW8bit(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    own = {name: value for state in optimizer.state.values() for name, value in state.items() if name.startswith("qmap")}
    tensors = [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    real = sum(tensor.nbytes for tensor in tensors if not any(tensor is table for table in own.values()))
    assert optimizer_bytes(dict(type="AdamW8bit"), model) == real


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
    assert f"{SIZES[1]:,}" in text


def test_bits_of_the_student_are_told(capsys):
    """What is quantised while training, as layers and as a share of the weights; of whole weights nothing is said."""
    figures = summarize(load_config("small_sd_xl_shapes_two_bits"))
    found = figures["quantized"]
    assert (found["bits"], found["group_size"], found["layers"]) == (2, 32, 110)
    print_summary(figures, "two bits", Console(width=80))
    assert "2 bits in 110 layers, 96 % of its weights" in capsys.readouterr().out
    assert summarize(load_config("small_sd_xl_shapes"))["quantized"] is None
