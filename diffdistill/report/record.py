"""`report.json`: what the running process knows and no other file of a run says."""

import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import diffusers
import mmengine
import numpy as np
import torch
import transformers

import diffdistill
from diffdistill.datasets.skipping import count_samples
from diffdistill.engine.device import device_name
from diffdistill.engine.runner import batch_size_of
from diffdistill.errors import InputError
from diffdistill.files import read_json, write_text_whole
from diffdistill.report.history import thin_curve
from diffdistill.students.cut import build_on_meta
from diffdistill.students.size import kept_layers, measure

FILE = "report.json"
POINTS = 400  # of a curve, about one for each pixel of its chart


def start_of(runner) -> dict:
    """What is known when a run starts: command, commit, device and versions; a resumed run has several such starts."""
    packages = (torch, mmengine, diffusers, transformers)
    return dict(
        folder=runner.timestamp,
        time=time.strftime("%Y-%m-%d %H:%M"),
        began=int(time.time()),
        command=shlex.join(["python", *sys.argv]),
        git=git_state(Path.cwd()),
        device=device_name(),
        processes=runner.world_size,
        versions=dict(
            diffdistill=diffdistill.__version__,
            python=platform.python_version(),
            **{package.__name__: package.__version__ for package in packages},
        ),
    )


def git_state(folder: Path) -> dict | None:
    """The commit that is checked out in `folder`, and whether tracked files differ from it; None where it is no checkout."""
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True, timeout=10).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(commit=commit.strip(), dirty=bool(changes.strip()))


def network_figures(model) -> dict:
    """Sizes and GMACs of teacher and student, and which layers the student keeps, as in `summary.summarize`."""
    configs = (model.family.denoiser_config, model.student.config)
    teacher, student = (build_on_meta(model.family.denoiser_class, config).eval() for config in configs)
    return dict(
        family=type(model.family).__name__,
        checkpoint=(model.family.denoiser or model.family.checkpoint).name,
        teacher=measure(teacher)[0],
        student=measure(student)[0],
        kept=kept_layers(teacher, model.layers),
    )


def histories(log_scalars: Mapping, step: int) -> dict[str, list]:
    """Every training scalar that has one value a step, as a thinned curve; the others stand in `scalars.json`."""
    found = {}
    for name, history in log_scalars.items():
        values = np.asarray(history.data[0], dtype=float)
        if name.startswith("train/") and 0 < len(values) == step:
            found[name.removeprefix("train/")] = thin_curve(range(1, step + 1), values, POINTS)
    return found


def not_finite(log_scalars: Mapping, name: str) -> int | None:
    """At how many steps the scalar `name` was infinite or no number; None where it is not logged."""
    if f"train/{name}" not in log_scalars:
        return None
    return int((~np.isfinite(np.asarray(log_scalars[f"train/{name}"].data[0], dtype=float))).sum())


def progress_of(runner, step: int, finished: bool) -> dict:
    """How far a run is and what it has logged so far."""
    hub, loader = runner.message_hub, runner.train_dataloader
    return dict(
        name=runner.experiment_name.removesuffix(f"_{runner.timestamp}"),
        step=step,
        max_steps=runner.max_iters,
        finished=finished,
        updated=time.strftime("%Y-%m-%d %H:%M"),
        seed=runner.seed,
        batch_size=batch_size_of(loader) * runner.world_size,
        not_finite={name: not_finite(hub.log_scalars, name) for name in ("loss", "grad_norm")},
        samples=count_samples(loader.dataset),
        skipped_samples=hub.get_info("skipped_samples", 0),
        skipped_steps=hub.get_info("skipped_steps", []),
        aspect_buckets=hub.get_info("aspect_buckets"),
        validation=hub.get_info("records", []),
        sampling=hub.get_info("sampling"),
        history=histories(hub.log_scalars, step),
    )


def read_record(run: Path) -> dict:
    """The record in the folder `run`; empty where there is none, or it is damaged."""
    try:
        return read_json(run / FILE)
    except InputError:
        return {}


def write_record(run: Path, record: Mapping) -> None:
    """Write `record` to `report.json` in the folder `run`, whole or not at all."""
    write_text_whole(run / FILE, json.dumps(record) + "\n")
