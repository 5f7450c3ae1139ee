"""The model card of an exported pipeline says what its run says, and nothing of other weights."""

import ast
import copy
import json
import re
import shutil

import pytest
import runs
from huggingface_hub import ModelCard, ModelCardData

from diffdistill.config.read import load_config
from diffdistill.errors import InputError
from diffdistill.export.card.licence import find_licence
from diffdistill.export.card.metrics import eval_results, metric_tables
from diffdistill.export.card.speed import read_speed, speed_tables
from diffdistill.export.card.usage import usage
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.metrics.record import figures_of
from diffdistill.runs.load import Trained


def export(teacher, out, *args) -> runs.Ended:
    return runs.tool("export", runs.SHAPES, out, "--dtype", "float32", *args, *runs.options(**runs.shapes(teacher)))


@pytest.fixture(scope="module")
def teacher(thin_sdxl, tmp_path_factory):
    """The teacher of the shapes run, with a model card of its own and a licence that has a name and a file."""
    folder = shutil.copytree(thin_sdxl, tmp_path_factory.mktemp("teacher") / "sdxl")
    data = ModelCardData(license="other", license_name="tiny-licence", license_link="LICENSE.md")
    (folder / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n# A teacher\n")
    (folder / "LICENSE.md").write_text("Do no harm.\n")
    return folder


@pytest.fixture(scope="module")
def folder(shapes_run, teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("card") / "tiny-student"
    ended = export(teacher, out, "--checkpoint", shapes_run.work_dir / "unet")
    assert ended.code == 0, ended
    return out


@pytest.fixture(scope="module")
def results(shapes_run):
    return json.loads((shapes_run.work_dir / "results.json").read_text())


def section(text: str, name: str) -> str:
    return text.split(f"\n## {name}\n")[1].split("\n## ")[0]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in `text`: the first cell -> the others."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {first: rest for first, *rest in lines}


def test_the_hub_reads_the_front_matter(folder, results):
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("diffusers", "text-to-image")
    assert {"stable-diffusion-xl", "distillation"} <= set(data.tags)
    assert data.base_model is None, "a folder is on no hub"
    final = results["validation"][-1]
    found = {each.metric_type: each.metric_value for each in data.eval_results}
    assert found == {name: figure for name, figure in figures_of(final).items() if name != "n"}
    assert {each.dataset_name for each in data.eval_results} == {final["protocol"]["captions"]}


def test_figures_are_those_of_the_run(folder, results):
    """Of teacher, first and last weights; by the one protocol that stands below."""
    text = ModelCard.load(folder / "README.md").text
    metrics = rows(section(text, "Metrics"))
    first, untrained, *_, final = results["validation"]
    assert (first["model"], untrained["step"], final["step"]) == ("teacher", 0, 6)
    assert metrics[""] == ["teacher", "before training", "this model"]
    expected = [f"{record['accuracy']:.4g}\N{NO-BREAK SPACE}%" for record in (first, untrained, final)]
    assert metrics["caption accuracy"] == expected
    assert "CaptionAccuracy: 2 shapes captions, half of them held out, seed 0; DPMSolver" in section(text, "Metrics")
    sizes = rows(section(text, "Size"))["parameters"]
    assert sizes[:2] == [f"{results[role]['parameters']:,}" for role in ("teacher", "student")]
    training = section(text, "Training")
    assert "- Steps: 6, batch size 2\n" in training, "as the run was started, not as the config says"
    assert "- Seed: 0\n" in training
    assert f"torch {results['versions']['torch']}" in training
    assert "feature=FeatureKD(normalize=True)" in training
    assert "- Weights: the exponential moving average" in training
    assert str(folder.parent) not in str(ModelCard.load(folder / "README.md")), "a path of this machine"


def test_the_grid_is_the_last_one(folder, shapes_run):
    assert (folder / "samples.png").read_bytes() == (shapes_run.work_dir / "samples" / "step_6.png").read_bytes()
    assert "](samples.png)" in (folder / "README.md").read_text()


def test_the_teachers_licence_is_carried_over(folder):
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.license_name, data.license_link) == ("other", "tiny-licence", "LICENSE.md")
    assert (folder / "LICENSE.md").read_text() == "Do no harm.\n"
    assert (
        "[`tiny-licence`](LICENSE.md), carried over from the model card of the teacher, `sdxl`"
        in (folder / "README.md").read_text()
    )


def test_licences_of_other_teachers(thin_sdxl, tmp_path):
    packaged = find_licence(Checkpoint("diffdistill::sdxl_shapes", "k"), "teacher", None)
    assert packaged.entries == {"license": "apache-2.0"}
    unknown = find_licence(Checkpoint(thin_sdxl, "k"), "base", None)
    assert not unknown.entries
    assert "The licence of the base, `sdxl`, applies to this model. It could not be read" in unknown.text
    out_of_reach = find_licence(Checkpoint("stabilityai/stable-diffusion-xl-base-1.0", "k"), "teacher", None)
    assert "applies to this model. It could not be read" in out_of_reach.text
    assert find_licence(Checkpoint(thin_sdxl, "k"), "teacher", "mit").entries == {"license": "mit"}
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert not find_licence(Checkpoint(tmp_path, "k"), "teacher", None).entries


def test_weights_that_were_not_measured_have_no_figures(shapes_run, teacher, tmp_path):
    """The run measured its average, after three steps and after six."""
    for name, args in (("raw", ["--raw"]), ("early", [])):
        file = shapes_run.work_dir / f"iter_{6 if name == 'raw' else 3}.pth"
        ended = export(teacher, tmp_path / name, "--checkpoint", file, *args)
        assert ended.code == 0, ended
    raw = (tmp_path / "raw" / "README.md").read_text()
    assert "these raw weights were not measured" in raw
    assert "- Weights: the raw ones" in raw
    assert "accuracy" not in raw
    assert not (tmp_path / "raw" / "samples.png").exists()
    early = (tmp_path / "early" / "README.md").read_text()
    assert "- Steps: 3 of 6, batch size 2\n" in early
    record = next(each for each in json.loads((shapes_run.work_dir / "results.json").read_text())["validation"]
                  if each["step"] == 3)  # fmt: skip
    assert rows(section(early, "Metrics"))["caption accuracy"][2] == f"{record['accuracy']:.4g}\N{NO-BREAK SPACE}%"


def test_a_checkpoint_without_a_run(folder, shapes_run, teacher, tmp_path):
    unet = shutil.copytree(shapes_run.work_dir / "unet", tmp_path / "elsewhere" / "unet")
    ended = export(teacher, tmp_path / "out", "--checkpoint", unet, "--licence", "mit")
    assert ended.code == 0, ended
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert card.data.eval_results is None
    assert "nothing is known of its quality" in card.text
    assert "Seed" not in card.text


# Protocols


def record(model, step, fid, n=100, **figures):
    metrics = {"FID": dict(figures=["fid"], weights="w"), "CLIPScore": dict(figures=["clip"], checkpoint="c")}
    shared = dict(n=n, captions="a.csv", seed=0, scheduler="DDIMScheduler", steps=4, guidance_scale=3.0, resolution=[8, 8])
    return dict(model=model, step=step, fid=fid, **figures, protocol=dict(**shared, metrics=metrics))


def test_no_table_has_two_protocols():
    """A teacher that was measured on other captions is left out, and each metric has settings of its own."""
    records = [
        record("teacher", 0, 10.0, n=50, clip=0.3),
        record("student", 0, 90.0),
        record("student", 9, 12.345678, clip=0.25),
    ]
    fid, clip = metric_tables(records, "before")
    assert rows(fid["table"]) == {"": ["before", "this model"], "---": ["---:", "---:"], "FID": ["90", "12.35"]}
    assert rows(clip["table"])["clip"] == ["0.25"]
    assert fid["protocol"].startswith(
        "FID: 100 a.csv, seed 0; DDIMScheduler, 4 steps, guidance scale 3; 8 x 8 pixels; weights w"
    )
    assert {each.metric_type: each.metric_value for each in eval_results(records)} == {"fid": 12.345678, "clip": 0.25}
    assert len({each.dataset_config for each in eval_results(records)}) == 2


# Speed


def speed(parameters: int) -> dict:
    row = dict(variant="eager", weights="trained", resolution=32, gmacs=0.5, gmacs_without_attention=0.4)
    times = dict(step_p90=0.1, step_peak_gb=None)
    return dict(
        rows=[
            dict(row, **times, model="teacher", parameters=10, step_seconds=0.08, step_speedup=1.0),
            dict(row, **times, model="student", parameters=parameters, step_seconds=0.032, step_speedup=2.5),
        ],
        protocol=dict(dtype="float32", batch=1, rounds=10, warmup=2, variants=["eager"], preset=None),
        machine=dict(device="a CPU", threads=1, torch="2", diffusers="0"),
    )


def test_speed_is_that_of_a_benchmark(results, shapes_run, teacher, tmp_path):
    file, parameters = tmp_path / "speed.json", results["student"]["parameters"]
    file.write_text(json.dumps(speed(parameters)))
    args = ("--checkpoint", shapes_run.work_dir / "unet", "--speed", file)
    ended = export(teacher, tmp_path / "out", *args)
    assert ended.code == 0, ended
    table = section((tmp_path / "out" / "README.md").read_text(), "Speed")
    assert rows(table)["student"] == [f"{parameters:,}", "0.5", "0.032", "0.1", "2.50 ×", "–"]
    assert "Medians of 10 interleaved rounds" in table

    file.write_text(json.dumps(speed(7)))
    ended = export(teacher, tmp_path / "other", *args)
    assert ended.code == 2
    assert f"--speed: no row is of this model, whose denoiser has {parameters:,} parameters; they have 10, 7" in ended.err
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".*partial"))
    with pytest.raises(InputError, match="not what `benchmark inference"):
        read_speed(str(shapes_run.work_dir / "results.json"))
    assert len(speed_tables(speed(7))) == 1


def test_the_snippet_runs(folder, monkeypatch):
    """As a reader would paste it, beside the folder."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(folder.parent)
    names: dict = {}
    exec(code, names)
    assert names["image"].size == (32, 32)
    assert "num_inference_steps=1, guidance_scale=3.0" in code


@pytest.fixture(scope="module")
def trained(shapes_run):
    """The run's config, and its student as an export loads it."""
    config = load_config(str(shapes_run.work_dir / runs.SHAPES))
    return config, Trained(copy.deepcopy(config), str(shapes_run.work_dir / "unet")).load()


@pytest.mark.parametrize(
    "text", ["a dog's bone", 'a "sks" dog', """a 'red' "dog"'s""", "back\\slash\\", "two\nlines", "Ein Bär, 犬", "```"]
)
def test_any_prompt_and_name_make_a_valid_snippet(text, trained):
    config, model = trained
    config.default_hooks.samples.prompts = [text]
    code = usage(model, config, text, "float16", ["pytorch_lora_weights.safetensors"])
    assert code.isascii() == text.isascii(), "letters stay as they are"
    assert not re.search(r"^```", code, re.MULTILINE), "it ends the block of the card"
    constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert constants.count(text) == 3, "the prompt, the pipeline and the adapter"
