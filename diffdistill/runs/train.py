"""Training from a config: check what the user has written, then hand over to MMEngine."""

import errno
import functools
import os
from pathlib import Path

import torch
from mmengine.config import Config

from diffdistill.config.check import check
from diffdistill.engine.runner import PlannedRunner
from diffdistill.engine.sharded_checkpoint import is_sharded_checkpoint
from diffdistill.errors import InputError
from diffdistill.models.base import build_model
from diffdistill.runs.prior_pictures import make_class_pictures, name_class_folder


def train(config: Config, resume: str | None = None, launcher: str = "none") -> None:
    """Train from `config`. `resume`: "auto" goes on from the run's last checkpoint, a path from that file."""
    if config.get("stages"):
        from diffdistill.runs.staged import train_stages

        train_stages(config, resume, functools.partial(train, launcher=launcher))
        return
    if resume == "auto":
        config.load_from = last_checkpoint(config.work_dir)
    elif resume:
        if not Path(resume).is_file() and not is_sharded_checkpoint(resume):
            raise InputError(f"--resume={resume}: no such file; give a checkpoint such as {config.work_dir}/iter_1000.pth")
        config.load_from = resume
    config.resume = bool(resume)
    config.launcher = launcher
    name_class_folder(config)
    plan = check(config, config.get("load_from"))
    build = functools.partial(build_model, config.model, plan)
    # SDXL reads its first text encoder before the last layer, which then has no gradients: DDP must not wait for them.
    config.find_unused_parameters = plan is not None and len(plan.on_meta) > 1
    if launcher != "none" and not torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            start_process_group(launcher)
        if not config.get("model_wrapper_cfg"):
            config.model_wrapper_cfg = dict(
                type="MMDistributedDataParallel",
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=config.find_unused_parameters,
            )
    try:
        make_class_pictures(config, build)
        PlannedRunner.around(config, build).train()
    except (KeyboardInterrupt, Exception) as error:
        if was_interrupted(error):
            raise KeyboardInterrupt(f"interrupted; {how_to_resume(config.work_dir)}") from None
        if isinstance(error, torch.OutOfMemoryError):
            raise InputError(
                f"out of memory with train_dataloader.batch_size={config.train_dataloader.batch_size}: lower it and raise"
                " optim_wrapper.accumulative_counts in turn, and by the same factor what counts iterations"
                " (train_cfg.max_iters and val_interval, begin and end of param_scheduler, the intervals of default_hooks"
                " but for an EMA's); or set model.gradient_checkpointing=True"
            ) from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise InputError(f"no space left on the disk of {config.work_dir}; {how_to_resume(config.work_dir)}") from error
        raise


def was_interrupted(error: BaseException | None) -> bool:
    """Whether `error` comes from Ctrl-C: during a save or in a worker, torch raises an error of its own over it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def how_to_resume(work_dir: str) -> str:
    """Says how the run in `work_dir` goes on: from which checkpoint, or that it has none."""
    last = last_checkpoint(work_dir)
    return f"the same command with --resume goes on from {last}" if last else "there is no checkpoint yet"


def last_checkpoint(work_dir: str) -> str | None:
    """The last checkpoint of the run in `work_dir`, wherever that folder has been moved to; None where it has none yet."""
    note = Path(work_dir, "last_checkpoint")
    if not note.exists():
        return None
    path = Path(note.read_text().strip())
    path = path if path.exists() else Path(work_dir, path.name)
    if not path.exists():
        raise InputError(f"{note} names {path.name}, which is not there; give a checkpoint with --resume=PATH")
    return str(path)


def start_process_group(launcher: str) -> None:
    """Start Gloo, for ranks on CPUs; MMEngine starts NCCL by itself. Raises InputError where no ranks have been started."""
    if launcher == "pytorch" and "RANK" not in os.environ:
        raise InputError(
            "--launcher=pytorch: no ranks have been started; start them with"
            " `python -m torch.distributed.run --nproc_per_node N tools/train.py ...`, or `mim train ... --gpus N`"
        )
    torch.distributed.init_process_group("gloo")
