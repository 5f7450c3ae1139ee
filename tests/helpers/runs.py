"""Whole runs by the project's tools, as a user starts them: in this process, which is quick, or in one of their own."""

import contextlib
import io
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import mmengine.config.config
import pytest
import torch
from warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
# Beside iter_<N>.pth, the config and a folder of logs.
FILES = ("last_checkpoint", "report.html", "report.json", "results.json", "samples", "scheduler", "unet")
PUBLISHED = "ssd_1b_distill_from_sdxl_pokemon_blip.py"
SHAPES = "small_sd_xl_shapes.py"


EMA = dict(
    default_hooks__ema__type="EMAHook",
    default_hooks__ema__ema_type="ExponentialMovingAverage",
    default_hooks__ema__momentum=0.5,
)
SAMPLES = dict(default_hooks__samples__prompts="[a red circle]")  # which take half of a tiny run's time
SIX_STEPS = dict(
    train_cfg__max_iters=6,
    train_cfg__val_interval=3,
    default_hooks__samples__interval=3,
    default_hooks__checkpoint__interval=3,
    default_hooks__checkpoint__max_keep_ckpts=2,
)


# MMEngine lays out a run's config five times, which takes longer than a tiny run itself. Runs in processes do so.
mmengine.config.config.FormatCode = lambda text, **options: (text, True)


@dataclass
class Ended:
    """How a tool ended: its exit status, what it printed, and for a training where it wrote."""

    code: int
    out: str
    err: str
    work_dir: Path | None = None

    def __str__(self) -> str:
        return f"status {self.code}\n{self.out[-2000:]}\n{self.err[-4000:]}"


def assert_one_line(ended: Ended, *words) -> None:
    """Exit status 2, and nothing on stderr but one line `error: ...` with all of `words`."""
    assert ended.code == 2, ended
    assert ended.err.startswith("error: "), ended
    assert ended.err.count("\n") == 1, ended
    assert "Traceback" not in ended.out
    missing = [word for word in words if str(word) not in ended.err]
    assert not missing, ended.err


def tool(name: str, *args) -> Ended:
    """Run `tools/<name>.py` with `args` in this process. An exception that it lets through is raised here."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = [f"{name}.py", *map(str, args)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(str(ROOT / "tools" / argv[0]), run_name="__main__")
        except SystemExit as exit_:
            code = exit_.code or 0
    return Ended(code, out.getvalue(), err.getvalue())


def start(name: str, *args, launcher: tuple[str, ...] = (), cwd: Path = ROOT, **env: str) -> subprocess.Popen | WarmProcess:
    """Start `tools/<name>.py` in a process group of its own, so that it can be killed or interrupted as a terminal does.

    With a launcher or an environment of its own it starts from nothing, otherwise with the libraries imported.
    """
    warm = not launcher and not env.keys() - {"PYTHONPATH"}
    command, variables = program(name, args), environment(env)
    if warm:
        return WarmProcess(command, cwd, variables)
    return subprocess.Popen(
        [sys.executable, *launcher, *command],
        cwd=cwd,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def two_ranks(command: list[str], **env: str) -> list[Ended]:
    """Run a Python program on two ranks."""
    ended = [finish(rank) for rank in start_ranks(command, 2, **env)]
    assert not any(rank.code for rank in ended), "\n".join(map(str, ended))
    return ended


def start_ranks(command: list[str], count: int, **env: str) -> list[WarmProcess]:
    """Start a Python program on `count` ranks, which torchrun would start without the libraries imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free.getsockname()[1]))
    meeting |= dict(WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
    ranks = (dict(RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count))
    return [WarmProcess(command, ROOT, environment(env | meeting | rank)) for rank in ranks]


def program(name: str, args: Sequence) -> list[str]:
    """The words of a command that runs `tools/<name>.py`."""
    return [str(ROOT / "tools" / f"{name}.py"), *map(str, args)]


def environment(changes: dict[str, str]) -> dict[str, str]:
    """This process's environment with `changes`, in which Python finds the package."""
    path = os.pathsep.join(filter(None, [changes.get("PYTHONPATH", str(ROOT)), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **changes, "PYTHONPATH": path}


def finish(process: subprocess.Popen | WarmProcess, timeout: float = 900) -> Ended:
    """Wait for a process of `start`; `timeout` ends one that hangs, and leaves time to one on a machine that is busy."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"no end after {timeout} s\n{Ended(None, *process.communicate())}")
    return Ended(process.returncode, out, err)


def trained(config: str | Path, work_dir: Path, changes: dict, *args: str) -> Ended:
    """Train `config` in this process to the end."""
    ended = tool("train", config, "--work-dir", work_dir, *args, *(options(**changes) if changes else []))
    assert ended.code == 0, ended
    ended.work_dir = work_dir
    return ended


def checkpoint(work_dir: Path, step: int) -> dict:
    """The checkpoint after `step` steps, read as safely as torch can."""
    return torch.load(work_dir / f"iter_{step}.pth", weights_only=True)


def differences(ours, theirs, name="") -> list[str]:
    """Names of the tensors and values that two nested states do not share bit for bit."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = ours.keys() | theirs.keys()
        return [d for key in keys for d in differences(ours.get(key), theirs.get(key), f"{name}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [d for i, pair in enumerate(zip(ours, theirs, strict=True)) for d in differences(*pair, f"{name}.{i}")]
    equal = torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs
    return [] if equal else [name]


def options(**changes) -> list[str]:
    """`--cfg-options`, with `__` for the dots of a key."""
    return ["--cfg-options", *(f"{key.replace('__', '.')}={value}" for key, value in changes.items())]


def fault(kind: str, **options) -> dict:
    """The options that put a hook of `faults.py`, which the test or its config imports, into a run."""
    return {f"default_hooks__fault__{key}": value for key, value in dict(options, type=kind).items()}


def published(teacher: Path, data: Path, **changes) -> dict:
    """What makes the published configs small: another teacher, another data set, small pictures, few steps."""
    return (
        dict(
            model__teacher__checkpoint=teacher,
            model__teacher__vae=None,
            model__sampling__num_inference_steps=1,
            train_dataloader__dataset__source=data,
            train_dataloader__dataset__pipeline__0__size=32,
            train_dataloader__num_workers=0,
            train_cfg__max_iters=2,
            default_hooks__logger__interval=1,
            default_hooks__samples__prompts=None,
        )
        | changes
    )


def shapes(teacher: Path, **changes) -> dict:
    """What makes the shapes configs small."""
    return (
        dict(
            model__teacher__checkpoint=teacher,
            model__sampling__num_inference_steps=1,
            train_dataloader__batch_size=2,
            val_dataloader__dataset__length=2,
            train_cfg__max_iters=2,
            train_cfg__val_interval=100,
            default_hooks__logger__interval=1,
            default_hooks__samples__prompts=None,
        )
        | changes
    )


def write_sd3_config(file: Path, teacher: Path) -> Path:
    """Write a config that distils half of the blocks of the tiny SD3 pipeline `teacher` on shapes, in two steps."""
    bases = [ROOT / "configs" / "_base_" / name for name in (
        "models/sd3_shapes.py", "datasets/shapes.py", "schedules/shapes_100.py", "shapes_runtime.py"
    )]  # fmt: skip
    file.write_text(
        f"""_base_ = {list(map(str, bases))}
model = dict(
    teacher=dict(checkpoint={str(teacher)!r}),
    student=dict(keep=dict(transformer_blocks=[0, 3])),
    sampling=dict(num_inference_steps=2),
)
train_dataloader = dict(batch_size=2)
val_dataloader = dict(dataset=dict(length=2))
train_cfg = dict(max_iters=2, val_interval=1)
default_hooks = dict(
    checkpoint=dict(interval=1, max_keep_ckpts=2), logger=dict(interval=1), samples=dict(interval=2, prompts=["a dog"])
)
"""
    )
    return file
