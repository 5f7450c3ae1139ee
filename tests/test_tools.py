"""Measuring and sampling students with the tools."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import runs
from PIL import Image

from diffdistill.metrics.record import figures_of

WITHOUT_VALIDATION = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)


@pytest.fixture
def measure(thin_sdxl, tmp_path):
    """Figures of a checkpoint by `tools/test.py`, on the config of the shapes run."""

    def run(checkpoint, *args, **changes):
        options = runs.shapes(thin_sdxl, **changes)
        if "val_dataloader" in changes:
            del options["val_dataloader__dataset__length"], options["train_cfg__val_interval"]
        work_dir = tmp_path / "work_dir"
        args = (runs.SHAPES, "--checkpoint", checkpoint, "--work-dir", work_dir, *args)
        ended = runs.tool("test", *args, *runs.options(**options))
        assert ended.code == 0, ended
        (record,) = json.loads((work_dir / "test" / "results.json").read_text())["results"]
        return figures_of(record)

    return run


@pytest.fixture(scope="session")
def pipeline_folder(shapes_run, thin_sdxl, tmp_path_factory):
    """The student of the shapes run as a whole pipeline, by `tools/export.py`."""
    out = tmp_path_factory.mktemp("export") / "pipeline"
    args = [runs.SHAPES, out, "--checkpoint", shapes_run.work_dir / "unet", "--dtype", "float32"]
    ended = runs.tool("export", *args, *runs.options(**runs.shapes(thin_sdxl)))
    assert ended.code == 0, ended
    return out


def test_losses_are_the_same_from_every_form_of_a_student(shapes_run, pipeline_folder, measure):
    """A checkpoint holds the averaged weights where a run keeps an average: those that the run exported."""
    forms = [shapes_run.work_dir / "iter_6.pth", shapes_run.work_dir / "unet", pipeline_folder]
    found = [measure(form, "--batches", "2", **WITHOUT_VALIDATION) for form in forms]
    assert found[0].keys() == {"loss_task", "loss_output", "loss_feature"}
    assert found[0] == found[1] == found[2]
    assert measure(shapes_run.work_dir / "iter_3.pth", "--batches", "2", **WITHOUT_VALIDATION) != found[0]


def test_validation_is_measured_where_the_config_has_one(shapes_run, measure, tmp_path):
    """The same figures as in the run itself; the run's own config is not written over."""
    run = shutil.copytree(shapes_run.work_dir, tmp_path / "work_dir")
    before = (run / runs.SHAPES).read_bytes()
    found = measure(run / "unet", "--json", tmp_path / "figures.json")
    assert found == figures_of(json.loads((run / "results.json").read_text())["validation"][-1])
    assert (tmp_path / "figures.json").read_bytes() == (run / "test" / "results.json").read_bytes()
    assert (run / runs.SHAPES).read_bytes() == before


def test_losses_of_a_student_whose_target_is_its_average(shallow_sdxl, tmp_path):
    """No hook keeps the average of a finished student: the student is that average."""
    options = runs.shapes(shallow_sdxl, **WITHOUT_VALIDATION)
    del options["val_dataloader__dataset__length"], options["train_cfg__val_interval"]
    work_dir = tmp_path / "run"
    runs.trained("sdxl_shapes_lcm.py", work_dir, options)
    ended = runs.tool(
        "test", "sdxl_shapes_lcm.py", "--checkpoint", work_dir / "unet", "--batches", 2, "--work-dir", work_dir,
        *runs.options(**options),
    )  # fmt: skip
    assert ended.code == 0, ended
    (record,) = json.loads((work_dir / "test" / "results.json").read_text())["results"]
    assert figures_of(record).keys() == {"loss_task"}


def test_the_checkpoint_given_is_measured_and_not_the_one_that_a_training_starts_from(shapes_run, measure):
    run, metric = shapes_run.work_dir, dict(val_evaluator__type="TeacherAgreement", val_evaluator__timesteps="[500]")
    last, earlier = (measure(run / name, **metric) for name in ("unet", "iter_3.pth"))
    assert last["latent_mse"] != earlier["latent_mse"]
    assert measure(run / "unet", **metric, load_from=run / "iter_3.pth") == last


def read(folder) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in folder.glob("*.png")}


def test_pictures_of_a_pipeline_follow_from_the_seed(pipeline_folder, tmp_path):
    prompts = ["--prompt", "a red circle", "a blue square", "--steps", "1"]
    for out, seed in (("one", 0), ("again", 0), ("next", 1)):
        ended = runs.tool("sample", pipeline_folder, *prompts, "--seed", seed, "--out", tmp_path / out)
        assert ended.code == 0, ended
        assert ended.out.strip() == str(tmp_path / out / "grid.png")
    one, again, later = (read(tmp_path / out) for out in ("one", "again", "next"))
    assert set(one) == {"pipeline_0.png", "pipeline_1.png", "grid.png"}
    pictures = set(one) - {"grid.png"}  # which says how long each row took
    assert all(np.array_equal(one[name], again[name]) for name in pictures)
    assert not np.array_equal(one["pipeline_0.png"], later["pipeline_0.png"])


def test_pictures_of_a_config_have_the_teacher_beside(shapes_run, thin_sdxl, tmp_path):
    """By default of the student that the run exported, and nothing else is written."""
    options = runs.options(**runs.shapes(thin_sdxl, work_dir=shapes_run.work_dir))
    before = set(shapes_run.work_dir.rglob("*"))
    ended = runs.tool("sample", runs.SHAPES, "--prompt", "a red circle", "--out", tmp_path / "out", *options)
    assert ended.code == 0, ended
    pictures = read(tmp_path / "out")
    assert set(pictures) == {"teacher_0.png", "student_0.png", "grid.png"}
    assert pictures["teacher_0.png"].shape == (32, 32, 3)
    assert not np.array_equal(pictures["teacher_0.png"], pictures["student_0.png"])
    assert set(shapes_run.work_dir.rglob("*")) == before


def by_python(*args) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, [str(runs.ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "diffdistill", *args]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)


@pytest.mark.processes
def test_the_interpreter_alone_runs_every_tool():
    listed = by_python("-h")
    assert listed.returncode == 0
    tools = {path.stem for path in (runs.ROOT / "tools").glob("*.py")}
    assert {line.split()[0] for line in listed.stdout.splitlines()[2:]} == tools
    unknown = by_python("trian")
    assert (unknown.returncode, unknown.stderr) == (2, "error: no tool 'trian'; the nearest: train\n")


@pytest.mark.processes
def test_a_mistake_by_the_interpreter_alone_is_one_line():
    ended = by_python("train", "nothing_like_it.py")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended
    assert "'nothing_like_it.py'" in ended.stderr


@pytest.mark.processes
def test_help_by_the_interpreter_alone_needs_no_torch(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    ended = by_python("train", "-h")
    assert ended.returncode == 0, ended
    assert "--check" in ended.stdout
