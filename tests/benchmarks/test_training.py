"""What a training step costs: the parts add up, and the arithmetic is the field's."""

import csv
import io
import json
import math

import caching
import pytest
import runs
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from rich.console import Console

from diffdistill.benchmarks import cost, tables
from diffdistill.benchmarks.cost import forward_flops, matmul_ceiling, model_flops
from diffdistill.benchmarks.timing import Part, interleave, median_ratio, memory_rise, ninetieth
from diffdistill.benchmarks.training import PARTS, measure_training
from diffdistill.command import parse_options
from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.students.cut import build_on_meta


@pytest.fixture(scope="module", autouse=True)
def smaller_matrices():
    """What the machine could do at best takes a second of products at full size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cost.SIDE, "cpu", 256)
        yield


@pytest.fixture(scope="module")
def measured(thin_sdxl, tmp_path_factory):
    """By the command line: a run that accumulates and keeps an EMA, with random weights; its figures as JSON and CSV."""
    folder = tmp_path_factory.mktemp("training")
    files = ["--json", folder / "a.json", "--csv", folder / "a.csv"]
    changes = runs.shapes(thin_sdxl, **runs.EMA, optim_wrapper__accumulative_counts=4)
    options = ["--rounds", 2, "--warmup", 1, "--random-weights", *files, *runs.options(**changes)]
    ended = runs.tool("benchmark", "training", runs.SHAPES, *options)
    assert ended.code == 0, ended
    with (folder / "a.csv").open() as file:
        return json.loads((folder / "a.json").read_text()), list(csv.DictReader(file)), ended.out


def test_the_parts_of_an_iteration_are_all_of_it(measured):
    figures, lines, _ = measured
    rows = {row["part"]: row for row in figures["rows"]}
    assert list(rows) == [*PARTS, "iteration", "step", "bare"]
    assert [line["part"] for line in lines] == list(rows)
    assert all(rows[part]["seconds"] > 0 for part in PARTS)  # the optimizer too, in spite of accumulation
    # The median of two rounds is their mean, so the medians of the parts add up as well.
    assert sum(rows[part]["seconds"] for part in PARTS) == pytest.approx(rows["iteration"]["seconds"])
    assert rows["bare"]["of_bare"] == 1
    assert figures["images_per_second"] == pytest.approx(2 / rows["iteration"]["seconds"])


def test_utilisation_is_useful_work_over_the_ceiling(measured, thin_sdxl):
    figures = measured[0]
    teacher = UNet2DConditionModel.from_pretrained(thin_sdxl / "unet")
    step = figures["model_tflop"] * 1e12 / 2  # a picture
    assert forward_flops(teacher, torch.Size([2, 4, 16, 16])) < step < 4 * forward_flops(teacher, torch.Size([2, 4, 16, 16]))
    speed = figures["model_tflop"] / next(row["seconds"] for row in figures["rows"] if row["part"] == "iteration")
    assert figures["achieved_tflops"] == pytest.approx(speed)
    assert figures["utilisation"] == pytest.approx(speed / figures["ceiling_tflops"])


def test_a_student_costs_three_forwards_and_a_teacher_one():
    assert model_flops(student=10, teacher=100, samples=dict(student=2, student_no_grad=0, teacher=2)) == 260
    assert model_flops(student=10, teacher=100, samples=dict(student=2, student_no_grad=1, teacher=4)) == 470


def test_flops_are_those_of_the_pictures_area(thin_sdxl):
    unet = build_on_meta(UNet2DConditionModel, UNet2DConditionModel.load_config(thin_sdxl / "unet"))
    square, wide = (forward_flops(unet, torch.Size([1, 4, *size])) for size in ((16, 16), (8, 32)))
    assert square == wide > 0


def test_the_ceiling_is_what_a_matmul_reaches(monkeypatch):
    monkeypatch.setattr("diffdistill.benchmarks.cost.SIDE", {"cpu": 100})
    monkeypatch.setattr("diffdistill.benchmarks.cost.seconds", lambda function, device: 0.5)
    assert matmul_ceiling(torch.float32, "cpu") == 4e6


def test_rounds_run_every_part_once_and_warm_up_is_not_counted():
    order: list[str] = []
    parts = {
        "a": Part(lambda: order.append("a"), lambda: order.append("prepare a")),
        "b": Part(lambda: order.append("b")),
    }
    times, _ = interleave(parts, rounds=3, warmup=1, device="cpu")
    assert order == ["prepare a", "a", "b"] * 4
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_memory_is_the_highest_and_not_the_last():
    megabytes = memory_rise(lambda: torch.ones(50_000_000, dtype=torch.uint8).max(), "cpu")
    if megabytes is None:
        pytest.skip("no such gauge on this system")
    assert 48e6 < megabytes < 60e6


def test_statistics():
    assert ninetieth([float(n) for n in range(11)]) == 9
    assert ninetieth([5.0]) == 5
    assert median_ratio([2, 30, 8], [1, 10, 2]) == 3


def test_methods_that_ask_more_networks_more_often(shallow_sdxl):
    """Latent consistency: the student once with a gradient, its average once, the teacher twice, for its guidance."""
    options = {key.replace("__", "."): value for key, value in runs.shapes(str(shallow_sdxl)).items()}
    options["default_hooks.samples.prompts"] = ["a red circle"]
    config = load_config("sdxl_shapes_lcm", options)
    figures = measure_training(config, rounds=1, warmup=1)
    teacher = UNet2DConditionModel.from_pretrained(shallow_sdxl / "unet")
    forward = forward_flops(teacher, torch.Size([2, 4, 16, 16]))
    assert figures["model_tflop"] * 1e12 == pytest.approx(2 * (3 + 1 + 2) * forward, rel=0.01)


@pytest.mark.parametrize("random_weights", [True, False])
def test_a_transformer_at_continuous_timesteps(random_weights, sd3_config, tiny_sd3):
    figures = measure_training(load_config(str(sd3_config)), rounds=1, warmup=1, random_weights=random_weights)
    teacher, student = (SD3Transformer2DModel.from_config(tiny_sd3 / "transformer", num_layers=n) for n in (4, 2))
    teacher, student = (forward_flops(model, torch.Size([2, 16, 16, 16])) for model in (teacher, student))
    assert figures["model_tflop"] * 1e12 == pytest.approx(2 * (3 * student + teacher))


@pytest.mark.parametrize("kind", ["StableDiffusion", "StableDiffusionXL"])
@pytest.mark.parametrize("whole", [True, False])
def test_text_encoders_may_be_trained_too(kind, whole, request):
    """Whole or by an adapter: steps on encoded inputs and steps that encode take turns."""
    folder = request.getfixturevalue("tiny_sd" if kind == "StableDiffusion" else "shallow_sdxl")
    config = load_config(runs.SHAPES, {"default_hooks.samples.prompts": None, "train_dataloader.batch_size": 2})
    config.model = dict(
        type="FineTuner",
        base=dict(type=kind, checkpoint=str(folder)),
        losses=dict(task=dict(type="TaskLoss")),
        finetune_text_encoder=whole,
        text_encoder_adapter=None if whole else dict(type="LoraConfig", r=2, target_modules=["q_proj", "v_proj"]),
    )
    rows = {row["part"]: row["seconds"] for row in measure_training(config, rounds=2, warmup=1)["rows"]}
    assert all(rows[part] > 0 for part in ("bare", "step", "iteration", "encode", "student", "backward", "optimizer"))


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal(measured, width, capsys):
    tables.print_training(measured[0], Console(width=width, highlight=False))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert all(name in text for part, name in tables.PART_NAMES.items() if part != "uncached")  # there is no cache
    assert "matmul" in text


def test_nothing_is_left_behind(measured, thin_sdxl, tmp_path, monkeypatch):
    """Not even the folder of the run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    options = {key.replace("__", "."): value for key, value in runs.shapes(str(thin_sdxl)).items()}
    options["default_hooks.samples.prompts"] = ["a red circle"]
    figures = measure_training(load_config(runs.SHAPES, options), rounds=1, warmup=1)
    assert math.isclose(figures["model_tflop"], measured[0]["model_tflop"])  # as with random weights
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["rounds", "warmup"])
def test_counts_below_one_are_refused(key):
    with pytest.raises(InputError, match=f"--{key} 0: give 1 or more"):
        measure_training(load_config(runs.SHAPES), **{key: 0})


def test_a_cache_is_measured_beside_the_same_without_it(thin_sdxl, tmp_path):
    changes = runs.shapes(thin_sdxl, train_dataloader__dataset__length=4)
    caching.make(runs.SHAPES, tmp_path / "cache", **changes)
    options = parse_options(runs.options(**changes, data_cache=tmp_path / "cache")[1:])
    figures = measure_training(load_config(runs.SHAPES, options), rounds=1, warmup=1)
    assert [row["part"] for row in figures["rows"]] == [*PARTS, "iteration", "uncached", "step", "bare"]
    assert all(row["of_bare"] > 0 for row in figures["rows"] if row["part"] == "uncached")
    console = Console(record=True, width=120, file=io.StringIO())
    tables.print_training(figures, console)
    assert "the same without the cache" in console.export_text()
