"""Opening what a run has trained: a checkpoint, or what it exported."""

from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from diffdistill.config.check import check_checkpoint, check_model, check_parts, check_sampling
from diffdistill.errors import InputError
from diffdistill.models.base import DiffusionModel
from diffdistill.models.distiller import Distiller
from diffdistill.models.saved import check_trained, last_adapter, load_trained
from diffdistill.registry import MODELS


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
