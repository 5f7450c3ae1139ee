"""A signal stops a run where it can go on from, and what goes on is the run that was never stopped."""

import json

import faults  # noqa: F401  (its hooks)
import pytest
import runs

TASK_ONLY = "small_sd_xl_shapes_task_only.py"


@pytest.fixture(scope="module")
def options(thin_sdxl):
    return runs.shapes(thin_sdxl, **runs.EMA, train_cfg__max_iters=6, train_cfg__val_interval=3)


@pytest.fixture(scope="module")
def straight(options, tmp_path_factory):
    return runs.trained(TASK_ONLY, tmp_path_factory.mktemp("straight") / "run", options).work_dir


def stopped(work_dir, options, *moments: str) -> runs.Ended:
    """A run that sends itself signals at these moments."""
    bad = options | runs.fault("SendSignals", moments=f"[{','.join(moments)}]")
    return runs.tool("train", TASK_ONLY, "--work-dir", work_dir, *runs.options(**bad))


def assert_resumes_exactly(work_dir, options, straight):
    runs.trained(TASK_ONLY, work_dir, options, "--resume")
    one, other = (runs.checkpoint(folder, 6) for folder in (work_dir, straight))
    for part in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers"):
        assert not runs.differences(one[part], other[part], part)
    one, other = (json.loads((folder / "results.json").read_text())["validation"] for folder in (work_dir, straight))
    assert one == other
    assert not list(work_dir.glob(".*"))


@pytest.mark.parametrize(
    ("moment", "step"),
    [
        ("before_train_iter:2:SIGTERM", 2),
        ("before_train_iter:3:SIGUSR1", 3),  # before the validation of that step
        ("before_train_iter:4:SIGINT", 4),
        ("after_val_iter:3:SIGTERM", 3),  # with the average in the place of the student
        ("before_train_iter:6:SIGTERM", 6),  # during the last step
        ("after_train:6:SIGTERM", 6),  # before the export
    ],
)
def test_a_stopped_run_saves_says_so_and_resumes_exactly(options, straight, tmp_path, moment, step):
    ended = stopped(tmp_path, options, moment)
    assert ended.code == 75, ended
    after = "" if moment.startswith("after_train:") else f" after step {step}"
    line = f"stopped by {moment.rpartition(':')[2]}{after}; the same command with --resume goes on from"
    assert ended.err.splitlines()[-1] == f"{line} {tmp_path / f'iter_{step}.pth'}"
    assert not (tmp_path / "unet").exists()
    assert_resumes_exactly(tmp_path, options, straight)


def test_it_is_saved_between_updates(options, tmp_path):
    ended = stopped(
        tmp_path,
        options | dict(optim_wrapper__accumulative_counts=3, default_hooks__checkpoint__interval=6),
        "before_train_iter:2:SIGTERM",
    )
    assert ended.code == 75, ended
    assert [path.name for path in tmp_path.glob("*.pth")] == ["iter_3.pth"]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
def test_before_the_first_step_there_is_nothing_to_save(options, tmp_path, name, code):
    ended = stopped(tmp_path, options, f"before_run:0:{name}")
    assert ended.code == code, ended
    assert ended.err.endswith("; there is no checkpoint yet\n")
    assert not list(tmp_path.glob("*.pth"))


def test_a_second_interrupt_does_not_wait(options, tmp_path):
    config = options | dict(optim_wrapper__accumulative_counts=6, default_hooks__checkpoint__interval=6)
    ended = stopped(tmp_path, config, "before_train_iter:2:SIGTERM", "before_train_iter:3:SIGINT")
    assert ended.code == 130, ended
    assert not list(tmp_path.glob("*.pth"))


def test_the_signals_are_left_as_they_were(straight):
    import signal

    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
