"""Training from a config: check what the user gave, then hand over to MMEngine; and loading what a run has trained."""

import errno
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from torch import Tensor

from diffdistill.check import check, check_checkpoint, check_model, check_parts, check_sampling
from diffdistill.class_pictures import make_class_pictures, name_class_folder
from diffdistill.distiller import Distiller
from diffdistill.errors import InputError
from diffdistill.model import DiffusionModel
from diffdistill.registry import MODELS
from diffdistill.trained import check_trained, last_adapter, load_trained


def train(config: Config, resume: str | None = None, launcher: str = "none") -> None:
    """Train from `config`. `resume`: "auto" goes on from the run's last checkpoint, a path from that file."""
    if config.get("stages"):
        from diffdistill.staged_run import train_stages

        train_stages(config, resume, functools.partial(train, launcher=launcher))
        return
    if resume == "auto":
        config.load_from = last_checkpoint(config.work_dir)
    elif resume:
        if not Path(resume).is_file():
            raise InputError(f"--resume={resume}: no such file; give a checkpoint such as {config.work_dir}/iter_1000.pth")
        config.load_from = resume
    config.resume = bool(resume)
    config.launcher = launcher
    name_class_folder(config)
    plan = check(config, config.get("load_from"))
    # SDXL reads its first text encoder before the last layer, which then has no gradients: DDP must not wait for them.
    config.find_unused_parameters = plan is not None and len(plan.on_meta) > 1
    if launcher != "none" and not torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            start_process_group(launcher)
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=config.find_unused_parameters,
        )
    try:
        make_class_pictures(config)
        Runner.from_cfg(config).train()
    except (KeyboardInterrupt, Exception) as error:
        if was_interrupted(error):
            raise KeyboardInterrupt(f"interrupted; {how_to_resume(config.work_dir)}") from None
        if isinstance(error, torch.OutOfMemoryError):
            raise InputError(
                f"out of memory with train_dataloader.batch_size={config.train_dataloader.batch_size}: lower it and raise"
                " optim_wrapper.accumulative_counts in turn, or set model.gradient_checkpointing=True"
            ) from error
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise InputError(f"no space left on the disk of {config.work_dir}; {how_to_resume(config.work_dir)}") from error
        raise


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind `error`: where it falls into a save, or ends a worker, torch reports that over it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def how_to_resume(work_dir: str) -> str:
    last = last_checkpoint(work_dir)
    return f"the same command with --resume goes on from {last}" if last else "there is no checkpoint yet"


def last_checkpoint(work_dir: str) -> str | None:
    """The last checkpoint of the run in `work_dir`, wherever that folder has been moved to."""
    note = Path(work_dir, "last_checkpoint")
    if not note.exists():
        return None
    path = Path(note.read_text().strip())
    path = path if path.exists() else Path(work_dir, path.name)
    if not path.exists():
        raise InputError(f"{note} names {path.name}, which is not there; give a checkpoint with --resume=PATH")
    return str(path)


def start_process_group(launcher: str) -> None:
    """Gloo, for ranks on CPUs. (MMEngine starts NCCL by itself.)"""
    if launcher == "pytorch" and "RANK" not in os.environ:
        raise InputError(
            "--launcher=pytorch: no ranks have been started; start them with"
            " `python -m torch.distributed.run --nproc_per_node N tools/train.py ...`, or `mim train ... --gpus N`"
        )
    torch.distributed.init_process_group("gloo")


def exported_student(config: Config) -> str:
    """The folder of what the run of `config` exported: of a student, or the last of its adapter."""
    run = Path(config.work_dir)
    folder = last_adapter(run) or run / "step<N>" if trains_adapters(config.model) else run / "unet"
    if not folder.exists():
        raise InputError(f"{folder} does not exist: train {Path(config.filename).name} first, or give --checkpoint")
    return str(folder)


def trains_adapters(model: Mapping) -> bool:
    places = (model, "adapter"), (model, "text_encoder_adapter"), (model.get("student") or {}, "adapter")
    return any(section.get(key) for section, key in places)


def use_checkpoint(config: Config, checkpoint: str, sampling: dict | None = None) -> Path | None:
    """Make `config` start from `checkpoint`: a `.pth` of a run, or a folder that a run exported.

    A student in diffusers' format takes the place of its first weights. Any other folder is given back, for `load_trained`.
    `sampling` are options of the pipeline's call that a user has asked for.
    """
    path = Path(checkpoint)
    if not path.exists():
        raise InputError(f"--checkpoint={checkpoint}: no such file or folder")
    config.load_from, config.resume = None, False
    check_parts(config)
    is_student = issubclass(MODELS.get(config.model.type), Distiller) and not trains_adapters(config.model)
    if path.is_dir() and is_student:
        config.model["student"] = dict(config.model.get("student") or {}, checkpoint=str(path))
    plan = check_model(config.model)
    if not path.is_dir():
        config.load_from = str(path)
        check_checkpoint(config.load_from, plan)
    elif not is_student:
        check_trained(plan, path)
    check_sampling(plan, sampling or {})
    return path if path.is_dir() and not is_student else None


def load_distiller(
    config: Config, checkpoint: str, sampling: dict | None = None, averaged: bool | None = None
) -> DiffusionModel:
    """The model of `config` in eval mode, with what a run trained from `checkpoint`; nothing is written.

    `sampling` are options of the pipeline's call that a user has asked for, over those of the config and of the method.
    `averaged`: see `read_weights`.
    """
    folder = use_checkpoint(config, checkpoint, sampling)
    distiller = MODELS.build(config.model).to(get_device()).eval()
    if config.load_from:
        distiller.load_state_dict(read_weights(config.load_from, averaged))
    elif folder:
        load_trained(distiller, folder)
    distiller.sample_with(**sampling or {})
    return distiller


def read_weights(file: str, averaged: bool | None = None) -> dict[str, Tensor]:
    """What a run trained, from its checkpoint `file`: the EMA where it kept one, but with `averaged=False` never."""
    saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    raw = saved.get("ema_state_dict")  # so EMAHook calls what is not averaged: it swaps the two before a save
    if averaged and raw is None:
        raise InputError(f"--ema: {file} is of a run that kept no EMA; leave the option out")
    if averaged is not False or raw is None:
        return saved["state_dict"]
    return {name.removeprefix("module."): tensor for name, tensor in raw.items() if name.startswith("module.")}
