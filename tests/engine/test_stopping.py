"""Signals to a whole run: to its process, to the workers of its loader, and to the mim that started it."""

import os
import re
import signal
import subprocess
import sys

import pytest
import runs

from diffdistill.engine.stopping import find_mim
from diffdistill.runs.folder import step_of

pytestmark = pytest.mark.processes

TASK_ONLY = "small_sd_xl_shapes_task_only.py"
# A parent by mim's name that starts the command it is given, as mim does, and ends when it is killed.
MIM = "import subprocess, sys\nsys.exit(subprocess.run(sys.argv[1:]).returncode)\n"


@pytest.fixture
def options(thin_sdxl):
    return runs.shapes(
        thin_sdxl,
        train_cfg__max_iters=1000,
        train_dataloader__num_workers=2,
        train_dataloader__persistent_workers=True,
        default_hooks__checkpoint__interval=1000,
    )


def wait_for_step(process, step: int) -> None:
    """Read the log of a running training until it has done `step`."""
    for line in process.stdout:
        if f"Iter(train) [{step:4d}/1000]" in line or f"Iter(train) [{step}/1000]" in line:
            return
    raise AssertionError(runs.finish(process))


def left(work_dir) -> int:
    """The step of the one checkpoint in a run's folder."""
    (file,) = work_dir.glob("*.pth")
    return step_of(file)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_all_processes_of_a_run_leaves_a_checkpoint(options, tmp_path, name):
    """As a scheduler of jobs sends it: the workers, which would die of it, are still needed for the step."""
    process = runs.start("train", TASK_ONLY, "--work-dir", tmp_path, *runs.options(**options))
    wait_for_step(process, 2)
    os.killpg(process.pid, getattr(signal, name))
    ended = runs.finish(process, 60)
    assert ended.code == 75, ended
    assert "Traceback" not in ended.err
    assert re.search(rf"^stopped by {name} after step {left(tmp_path)};", ended.err, re.MULTILINE)


def test_the_end_of_mim_is_one_of_the_run(options, tmp_path):
    """mim does not hand signals on: the training would run on without it."""
    launcher = tmp_path / "mim"
    launcher.write_text(MIM)
    command = [sys.executable, *runs.program("train", [TASK_ONLY, "--work-dir", tmp_path / "run", *runs.options(**options)])]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # true ones: its words are read by the system
    process = subprocess.Popen(
        [sys.executable, launcher, *command], cwd=runs.ROOT, env=runs.environment({}), start_new_session=True, **pipes
    )
    wait_for_step(process, 2)
    os.kill(process.pid, signal.SIGKILL)
    ended = runs.finish(process, 60)
    assert f"stopped by the end of mim after step {left(tmp_path / 'run')}" in ended.err


def test_a_process_without_mim_has_none():
    assert find_mim() is None
