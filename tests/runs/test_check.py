"""`--check` finds what a run would find, of every stage, tells what it will take, and leaves nothing."""

import pytest
import runs

STAGES = "[{'name': 'one'}, {'name': 'two', %s}]"


@pytest.fixture
def checked(thin_sdxl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def attempt(*args, **changes) -> runs.Ended:
        options = runs.options(**runs.shapes(thin_sdxl, **changes))
        ended = runs.tool("train", runs.SHAPES, "--check", *args, *options)
        assert not list(tmp_path.iterdir())
        return ended

    return attempt


def test_a_run_without_mistakes(checked):
    ended = checked(default_hooks__checkpoint__interval=1)
    assert ended.code == 0, ended
    for part in ("feature pairs", "training memory", "2 checkpoints", "what is exported", "no mistake found"):
        assert part in ended.out


def test_every_stage_is_checked(checked):
    ended = checked(stages=STAGES % "'randomness': {'seed': 3}")
    assert ended.code == 0, ended
    assert "stage 2 of 2: two: checkpoint" in ended.out
    for mistake, said in {
        "'train_cfg': {'val_interval': 0}": "stage 2 of 2: two: train_cfg.val_interval=0",
        "'optim_wrapper': {'optimizer': {'lr': 'x'}}": "stage 2 of 2: two: optim_wrapper.optimizer.lr='x'",
        "'modle': {'dtype': 'float32'}": "stage 2 of 2: two: modle",
    }.items():
        ended = checked(stages=STAGES % mistake)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
        assert said in ended.err


def test_a_stage_is_checked_before_the_first_one_trains(thin_sdxl, tmp_path):
    stages = STAGES % "'train_cfg': {'val_interval': 0}"
    options = runs.options(**runs.shapes(thin_sdxl, stages=stages))
    ended = runs.tool("train", runs.SHAPES, "--work-dir", tmp_path / "run", *options)
    assert (ended.code, (tmp_path / "run").exists()) == (2, False)
    assert "val_interval=0" in ended.err


def test_a_checkpoint_to_go_on_from_is_checked_too(checked, shapes_run, thin_sdxl):
    ended = checked("--resume=/nowhere.pth")
    assert ended.code == 2
    assert "/nowhere.pth" in ended.err
    before = {path: path.stat().st_mtime_ns for path in shapes_run.work_dir.rglob("*")}
    ended = runs.tool(
        "train", runs.SHAPES, "--check", "--resume", "--work-dir", shapes_run.work_dir,
        *runs.options(**runs.shapes(thin_sdxl, **runs.SIX_STEPS, **runs.SAMPLES, **runs.EMA)),
    )  # fmt: skip
    assert ended.code == 0, ended
    assert {path: path.stat().st_mtime_ns for path in shapes_run.work_dir.rglob("*")} == before
