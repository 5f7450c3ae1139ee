"""Training from a config: check what the user has written, then hand over to MMEngine."""

import functools
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed, is_main_process

from diffdistill.config.check import check
from diffdistill.engine.runner import PlannedRunner
from diffdistill.engine.sharded_checkpoint import is_sharded_checkpoint
from diffdistill.engine.stopping import stop_request
from diffdistill.errors import Diverged, InputError
from diffdistill.files import describe_disk_error
from diffdistill.models.build import build_model
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
    # SDXL reads its first text encoder before the last layer, which then has no gradients: DDP must not wait for them.
    config.find_unused_parameters = plan is not None and len(plan.on_meta) > 1
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
        with locked(config.work_dir) if is_main_process() else nullcontext():
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
    if interrupt := next((each for each in chain(error) if isinstance(each, KeyboardInterrupt)), None):
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
    if trouble := describe_disk_error(error):
        return InputError(f"{trouble}; {resume}")
    return error


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised over."""
    while error is not None:
        yield error
        error = error.__context__


def start_ranks(config: Config) -> None:
    """Let the ranks find each other, by Gloo on CPUs, once a process. Raises InputError where none have been started."""
    if is_distributed():
        return
    if config.launcher == "pytorch" and "RANK" not in os.environ:
        raise InputError(
            "--launcher=pytorch: no ranks have been started; start them with"
            " `python -m torch.distributed.run --nproc_per_node N tools/train.py ...`, or `mim train ... --gpus N`"
        )
    if torch.cuda.is_available():
        init_dist(config.launcher, **config.get("env_cfg", {}).get("dist_cfg", {}))
    else:
        torch.distributed.init_process_group("gloo")
