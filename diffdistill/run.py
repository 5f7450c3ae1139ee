"""Training and testing from a config: check what the user gave, then hand over to MMEngine's Runner."""

import functools
import inspect
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from diffdistill.distiller import Distiller, StudentPlan
from diffdistill.errors import InputError
from diffdistill.registry import DATASETS


def check_work_dir(folder: str) -> None:
    """Raise InputError unless `folder` can be written, without creating it."""
    nearest = Path(folder).absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        reason = "is a file" if nearest.is_file() else "cannot be written"
        raise InputError(f"--work-dir={folder}: {nearest} {reason}; choose a folder that can be written")


def check_model(model: dict) -> StudentPlan:
    """Build the plan of the student, which reads small files only. Raises InputError for what cannot work."""
    known = inspect.signature(Distiller).parameters
    for key in model:
        if key != "type" and key not in known:
            raise InputError(f"model.{key} is not a key of the config; model has {', '.join(known)}")
    for key in ("teacher", "losses"):
        if key not in model:
            raise InputError(f"model.{key} is missing from the config")
    return StudentPlan(model["teacher"], model.get("student") or {}, model.get("feature_pairs"), model["losses"])


def check(config: Config) -> None:
    """Find the mistakes that can be found before gigabytes are loaded, and before anything is written."""
    check_work_dir(config.work_dir)
    check_model(config.model)
    DATASETS.build(config.train_dataloader.dataset)[0]


def train(config: Config, resume: str | None = None, launcher: str = "none") -> None:
    """Train from `config`. `resume`: "auto" goes on from the run's last checkpoint, a path from that file."""
    if config.get("stages"):
        from diffdistill.staged_run import train_stages

        return train_stages(config, resume, functools.partial(train, launcher=launcher))
    if resume and resume != "auto" and not Path(resume).is_file():
        raise InputError(f"--resume={resume}: no such file; give a checkpoint such as {config.work_dir}/iter_1000.pth")
    check(config)
    config.resume = bool(resume)
    config.load_from = None if resume == "auto" else resume or config.get("load_from")
    config.launcher = launcher
    if launcher != "none" and not torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
    Runner.from_cfg(config).train()
    return None


def exported_student(config: Config) -> str:
    """The folder of the student that the run of `config` exported."""
    folder = Path(config.work_dir, "unet")
    if not folder.exists():
        raise InputError(f"{folder} does not exist: train {Path(config.filename).name} first, or give --checkpoint")
    return str(folder)


def load_runner(config: Config, checkpoint: str) -> Runner:
    """A runner whose student has the weights of `checkpoint`: a `.pth` file, or a diffusers folder of a UNet or pipeline."""
    path = Path(checkpoint)
    if not path.exists():
        raise InputError(f"--checkpoint={checkpoint}: no such file or folder")
    check_model(config.model)
    config.load_from = None
    if path.is_dir():
        config.model.setdefault("student", {})["checkpoint"] = str(path)
    else:
        config.load_from = str(path)
    for key in ("ema", "export", "samples", "baseline"):
        config.default_hooks.pop(key, None)
    return Runner.from_cfg(config)


def evaluate(config: Config, checkpoint: str, batches: int = 20) -> dict[str, float]:
    """The metrics of the config's validation, or where it has none the mean losses over `batches` training batches.

    Noise, timesteps and pictures follow from `randomness.seed`, so that two checkpoints see the same ones.
    """
    has_metrics = config.get("val_evaluator") is not None
    if has_metrics:
        config.test_dataloader, config.test_evaluator, config.test_cfg = config.val_dataloader, config.val_evaluator, dict()
    runner = load_runner(config, checkpoint)
    if has_metrics:
        return runner.test()
    runner.load_or_resume()
    return mean_losses(runner, batches)


@torch.no_grad()
def mean_losses(runner: Runner, batches: int) -> dict[str, float]:
    """Mean of every loss term over the first `batches` batches of the training data."""
    runner.set_randomness(seed=runner.seed)
    model, loader = runner.model.eval(), runner.build_dataloader(runner.cfg.train_dataloader, seed=runner.seed)
    totals: dict[str, float] = {}
    iterator = iter(loader)
    for _ in range(batches):
        terms = model(**model.data_preprocessor(next(iterator)), mode="loss")
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value.item() / batches
    return totals
