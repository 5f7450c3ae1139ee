"""Training from a config: check what the user has written, then hand over to MMEngine."""

import functools
import traceback
from pathlib import Path

import torch
from mmengine.config import Config

from diffdistill.config.check import check
from diffdistill.engine.launch import lost_a_rank, start_ranks
from diffdistill.engine.runner import PlannedRunner
from diffdistill.engine.sharded_checkpoint import is_sharded_checkpoint
from diffdistill.engine.stopping import stop_request
from diffdistill.errors import Diverged, InputError, causes
from diffdistill.files import describe_disk_error
from diffdistill.models.base import build_model
from diffdistill.runs.folder import how_to_resume, last_checkpoint, locked
from diffdistill.runs.prior_pictures import make_class_pictures, name_class_folder


def train(config: Config, resume: str | None = None, launcher: str = "none") -> None:
    """Train from `config`. `resume`: "auto" goes on from the run's last checkpoint, a path from that file.

    Raises InputError for mistakes and for what the machine lacks, Diverged where losses stop being finite, Stopped where a
    signal has ended the run after a save, and KeyboardInterrupt where Ctrl-C has ended it at once.
    """
    with stop_request.listen():
        if config.get("stages"):
            from diffdistill.runs.staged import train_stages

            config.launcher = launcher
            train_stages(config, resume, functools.partial(train, launcher=launcher))
        else:
            train_one(config, resume, launcher)


def train_one(config: Config, resume: str | None, launcher: str) -> None:
    """Train from a `config` without stages; see `train`."""
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
    # SDXL reads its first text encoder before the last layer, which then has no gradients, and in a turn of its critics the
    # student has none: DDP must not wait for them.
    config.find_unused_parameters = plan is not None and (
        plan.trains_text or plan.method.ratio > 1 or plan.method.warmup > 0
    )
    if launcher != "none":
        start_ranks(config)
        if not torch.cuda.is_available() and not config.get("model_wrapper_cfg"):
            config.model_wrapper_cfg = dict(
                type="MMDistributedDataParallel",
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=config.find_unused_parameters,
            )
    try:
        with locked(config.work_dir):
            make_class_pictures(config, build)
            PlannedRunner.around(config, build).train()
    except (KeyboardInterrupt, Exception) as error:
        told = in_one_line(error, config)
        if told is error:
            raise
        raise told from error


def in_one_line(error: BaseException, config: Config) -> BaseException:
    """What to tell of an `error` that has ended a training: one line and how to go on; what nobody could know stays it."""
    resume = how_to_resume(config.work_dir)
    if interrupt := next((each for each in causes(error) if isinstance(each, KeyboardInterrupt)), None):
        # During a save or in a worker, torch raises an error of its own over it.
        return type(interrupt)(f"{interrupt or 'interrupted'}; {resume}")
    if isinstance(error, Diverged):
        return Diverged(f"{error}; {resume}, with a lower optim_wrapper.optimizer.lr or without those samples")
    if isinstance(error, torch.OutOfMemoryError):
        return InputError(
            f"out of memory with train_dataloader.batch_size={config.train_dataloader.batch_size}: lower it and raise"
            " optim_wrapper.accumulative_counts in turn, and by the same factor what counts iterations"
            " (train_cfg.max_iters and val_interval, begin and end of param_scheduler, the intervals of default_hooks"
            " but for an EMA's); or set model.gradient_checkpointing=True"
        )
    if died := next(filter(None, map(end_of_worker, causes(error))), None):
        return InputError(
            f"{died}; where the system has ended it for lack of memory, lower train_dataloader.num_workers; {resume}"
        )
    if any(lost_a_rank(each) for each in causes(error)):
        return InputError(f"another rank has ended, and its own output says why; {resume}")
    if trouble := describe_disk_error(error):
        return InputError(f"{trouble}; {resume}")
    return error


def end_of_worker(error: BaseException) -> str | None:
    """How `error` says that a worker of a loader has ended; None for any other error."""
    if str(error).startswith("DataLoader worker"):
        return str(error).partition(". ")[0].rstrip(".")
    # A worker that is killed closes its connections shortly before torch can see that it has ended.
    lost = isinstance(error, ConnectionError | EOFError)
    if lost and any(frame.name == "_try_get_data" for frame in traceback.extract_tb(error.__traceback__)):
        return f"DataLoader worker has ended while it handed over a batch ({str(error) or type(error).__name__})"
    return None
