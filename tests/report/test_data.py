"""What is read from the folder of a run."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import runs
from mmengine.logging import HistoryBuffer

from diffdistill.errors import InputError
from diffdistill.report.data import read_run
from diffdistill.report.record import git_state, histories, not_finite


@pytest.fixture
def copy(shapes_run, tmp_path):
    return shutil.copytree(shapes_run.work_dir, tmp_path / "copy")


def test_a_run_is_read_whole(shapes_run):
    run = read_run(shapes_run.work_dir)
    results = json.loads((shapes_run.work_dir / "results.json").read_text())
    assert (run.name, run.steps, run.finished) == ("small_sd_xl_shapes", 6, True)
    assert run.validation == results["validation"]
    assert [(grid.step, grid.path.name) for grid in run.grids] == [(3, "step_3.png"), (6, "step_6.png")]
    assert "max_iters=6" in run.config
    for name in ("loss", "loss_task", "loss_output", "loss_feature", "lr", "grad_norm", "time", "memory"):
        assert run.curves[name][0] == [1, 2, 3, 4, 5, 6], name
    terms = zip(*(run.curves[f"loss_{name}"][1] for name in ("task", "output", "feature")), strict=True)
    assert [sum(term) for term in terms] == pytest.approx(run.curves["loss"][1], rel=1e-3)


def test_the_record_says_how_it_was_run(shapes_run):
    record = read_run(shapes_run.work_dir).record
    (start,) = record["starts"]
    assert re.match(rf"python \S*train\.py {runs.SHAPES} --work-dir ", start["command"])
    assert "'default_hooks.samples.prompts=[a red circle]'" in start["command"]  # quoted for a shell
    assert start["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    expected = dict(step=6, max_steps=6, finished=True, seed=0, batch_size=2)
    assert expected.items() <= record.items()
    assert record["not_finite"] == dict(loss=0, grad_norm=0)
    assert (record["skipped_samples"], record["skipped_steps"]) == (0, [])
    assert record["samples"] == 100_000
    assert record["prompts"] == ["aredcircle"]  # MMEngine drops spaces in --cfg-options
    results = json.loads((shapes_run.work_dir / "results.json").read_text())
    for role in ("teacher", "student"):
        assert record["network"][role]["parameters"] == results[role]["parameters"]
        assert record["network"][role]["gmacs"] > 0


def test_a_resumed_run_is_one_curve(published_run):
    """Two steps, then a resume to three: two starts and two folders of logs."""
    run = read_run(published_run.work_dir)
    assert len([path for path in run.folder.iterdir() if re.fullmatch(r"\d{8}_\d{6}", path.name)]) == 2
    commands = [start["command"] for start in run.record["starts"]]
    assert ["--resume" in command for command in commands] == [False, True]
    assert run.curves["loss"][0] == [1, 2, 3]
    (run.folder / "report.json").rename(run.folder / "aside.json")  # the logs alone say the same
    try:
        assert read_run(run.folder).curves["loss"][0] == [1, 2, 3]
    finally:
        (run.folder / "aside.json").rename(run.folder / "report.json")


def test_what_an_earlier_run_left_is_not_shown(copy):
    """A run that trains again in the same folder overwrites its files one by one."""
    record = json.loads((copy / "report.json").read_text())
    record |= dict(finished=False, step=3, history={}, validation=[])
    record["starts"] = [dict(record["starts"][0], folder="20990101_000000", began=2**33)]
    (copy / "report.json").write_text(json.dumps(record))
    run = read_run(copy)
    assert (run.finished, run.steps, run.curves, run.grids, run.validation, run.results) == (False, 3, {}, [], [], {})


def test_a_killed_run_has_what_it_logged(copy):
    for name in ("report.json", "results.json"):
        (copy / name).unlink()
    run = read_run(copy)
    assert (run.name, run.finished, run.steps) == ("copy", False, 6)
    assert len(run.curves["loss"][0]) == 6


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is no folder; give the folder of a run"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is no run's folder: it has no report\.json"):
        read_run(tmp_path)


def test_steps_that_are_not_finite_are_counted():
    hub = {"train/loss": HistoryBuffer([1.0, np.nan, np.inf, 2.0], [1] * 4), "train/lr": HistoryBuffer([1.0], [1])}
    assert not_finite(hub, "loss") == 2
    assert not_finite(hub, "grad_norm") is None
    assert histories(hub, 4) == {"loss": [[1, 2, 3, 4], [1.0, None, None, 2.0]]}  # lr has not one value a step


def test_git_state(tmp_path):
    assert git_state(tmp_path) is None

    def git(*args):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *args], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("one")
    git("add", ".")
    git("commit", "-m", "one")
    clean = git_state(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", clean["commit"])
    assert not clean["dirty"]
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path) == dict(commit=clean["commit"], dirty=True)
