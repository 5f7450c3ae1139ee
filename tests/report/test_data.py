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
    assert record["prompts"] == ["a red circle"]
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


@pytest.mark.parametrize(
    "content", [b"", b'{"a": ', b"[1, 2]", b"null", b"\xff\xfe", b'{"validation": 3, "starts": 3}', b"[" * 9999]
)
@pytest.mark.parametrize("name", ["results.json", "report.json"])
def test_a_page_without_a_damaged_file_says_so(name, content, copy):
    (copy / name).write_bytes(content)
    ended = runs.tool("report", copy)
    assert ended.code == 0, ended
    page = (copy / "report.html").read_text()
    assert f"<p>Left out: copy/{name} is damaged: " in page
    assert "caption accuracy" in page  # from the other file
    ended = runs.tool("report", copy, copy, "--out", copy / "both.html")
    assert ended.code == 0, ended
    assert f"<p>Left out: copy/{name} is damaged: " in (copy / "both.html").read_text()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("results.json", dict(validation=[3])),
        ("results.json", dict(validation=[dict(model="student", step="x", accuracy=1.0)])),
        ("results.json", dict(student=3)),
        ("report.json", dict(starts=[3])),
        ("report.json", dict(network=dict(a=1))),
        ("report.json", dict(history=dict(loss=[[1, 2], [1.0]]))),
    ],
)
def test_values_that_no_run_writes_are_one_line(name, change, copy):
    content = json.loads((copy / name).read_text())
    (copy / name).write_text(json.dumps(content | change))
    before = (copy / "report.html").read_bytes()
    ended = runs.tool("report", copy)
    assert ended.code == 2, ended
    assert ended.err.startswith(f"error: {copy}: results.json, report.json or a log there is damaged (")
    assert ended.err.count("\n") == 1
    assert (copy / "report.html").read_bytes() == before


def test_odd_names_logs_and_pictures_do_no_harm(copy):
    for name in (
        "step_.png",
        "step_x.png",
        "step_-1.png",
        "step_3 (1).png",
        "step_²۳.png",
        "step_" + 200 * "9" + ".png",
        "step_03.png",
    ):
        (copy / "samples" / name).write_bytes(b"")
    (copy / "samples" / "step_4.png").mkdir()
    (copy / "stage_1_x").write_text("")
    (copy / "20990101_000000").write_text("")
    (scalars,) = copy.glob("*/vis_data/scalars.json")
    scalars.write_bytes(
        b'\xff\n5\n[1]\n{"iter": 1}\n{"iter": 1, "step": "x", "loss": 1}\n' + b"[" * 9999 + b"\n" + scalars.read_bytes()
    )
    (config,) = copy.glob("*/vis_data/config.py")
    config.write_bytes(b"\xff" + config.read_bytes())
    run = read_run(copy)
    assert [grid.step for grid in run.grids] == [3, 4, 6]
    assert run.curves["loss"][0] == [1, 2, 3, 4, 5, 6]
    assert runs.tool("report", copy).code == 0


def test_a_damaged_record_does_not_stop_the_report_of_a_resumed_run(copy, thin_sdxl):
    (copy / "report.json").write_text('{"starts": ')
    runs.trained(
        runs.SHAPES, copy, runs.shapes(thin_sdxl, **runs.SIX_STEPS | dict(train_cfg__max_iters=7), **runs.EMA), "--resume"
    )
    assert json.loads((copy / "report.json").read_text())["step"] == 7
