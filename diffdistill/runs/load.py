"""Opening what a run has trained: a checkpoint, or what it exported."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor

from diffdistill.config.check import check_checkpoint, check_model, check_parts, check_sampling
from diffdistill.engine.sharded_checkpoint import is_sharded_checkpoint, load
from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.reading import check_predicts
from diffdistill.families.runtimes import RuntimeFolder, runtime_of
from diffdistill.families.single_file import is_single_file
from diffdistill.models.base import DiffusionModel, build_model
from diffdistill.models.plan import Plan
from diffdistill.models.saved import check_trained, last_adapter, load_trained
from diffdistill.registry import MODELS
from diffdistill.students.cut import first_difference, state_on_meta
from diffdistill.students.quantization import bake


class Trained:
    """What a run of `config` has trained and left at `checkpoint`: found and checked at once, loaded by `load`.

    Args:
        config: of the run; it stays as it is.
        checkpoint: a `.pth` of the run (a folder `iter_<N>` of a sharded one), or what it exported: a folder of the
            denoiser, or the `step<N>` of an adapter; of a student, a single file (.safetensors) as well;
            or the pipeline, exported for a runtime.
        sampling: options of the pipeline's call that a user has asked for, over those of the config and of the method.

    Raises InputError if there is no such checkpoint, or if it is not one of this config.
    """

    def __init__(self, config: Config, checkpoint: str, sampling: Mapping | None = None):
        self.path, self.sampling = Path(checkpoint), dict(sampling or {})
        if not self.path.exists():
            raise InputError(f"--checkpoint={checkpoint}: no such file or folder")
        check_parts(config)
        self.model = model = copy.deepcopy(config.model)
        self.in_runtime = runtime_of(self.path) is not None
        if self.in_runtime:
            leave_out_what_is_fused(model)
        # A whole student takes the place of its first weights; anything else is put into a model that is built first.
        single = is_single_file(str(self.path))
        self.is_folder = single or (self.path.is_dir() and not is_sharded_checkpoint(self.path))
        self.is_student = self.is_folder and MODELS.get(model.type).distills and not trains_adapters(model)
        self.is_student &= not self.in_runtime
        if single and not self.is_student:
            raise InputError(
                f"--checkpoint={checkpoint}: a single file is read as a whole student, and {model.type} trains"
                f" {'an adapter' if trains_adapters(model) else 'a pipeline of its own'} here; give the folder of its run"
            )
        if self.is_student:
            model["student"] = dict(model.get("student") or {}, checkpoint=str(self.path))
        self.plan = check_model(model)
        if self.is_student:
            source = Checkpoint(checkpoint, "--checkpoint")
            check_predicts(source, self.plan.noise_schedule, "model.student.prediction_type")
        if self.in_runtime:
            draw_from(self.plan, str(self.path))
        elif not self.is_folder:
            check_checkpoint(str(self.path), self.plan)
        elif not self.is_student:
            check_trained(self.plan, self.path)
        check_sampling(self.plan, self.sampling)

    def load(self, averaged: bool | None = None) -> DiffusionModel:
        """The model in eval mode, on the training device; `averaged`: see `read_weights`."""
        model = build_model(self.model, self.plan.without_critics()).to(get_device()).eval()
        if not self.is_folder:
            model.load_state_dict(read_weights(str(self.path), averaged))
        elif not self.is_student and not self.in_runtime:
            load_trained(model, self.path)
        bake(model.student)
        model.sample_with(**self.sampling)
        return model


def exported_student(config: Config) -> str:
    """The folder that the run of `config` exported: of its student, or the last one of its adapter.

    Raises InputError where there is none.
    """
    check_parts(config)
    run, model = Path(config.work_dir), config.model
    if trains_adapters(model):
        folder = last_adapter(run) or run / "step<N>"
    else:
        origin = model.get("teacher") or model.base
        folder = run / MODELS.get(origin.type).denoiser_name
    if not folder.exists():
        raise InputError(f"{folder} does not exist: train {Path(config.filename).name} first, or give --checkpoint")
    return str(folder)


def trains_adapters(model: Mapping) -> bool:
    """Whether a config's `model` trains an adapter, of its denoiser or of a text encoder."""
    places = (model, "adapter"), (model, "text_encoder_adapter"), (model.get("student") or {}, "adapter")
    return any(section.get(key) for section, key in places)


def leave_out_what_is_fused(model: dict) -> None:
    """Take out of a config's `model` what changes nothing any more once a pipeline was exported for a runtime."""
    for section in (model, model.get("student") or {}):
        for key in ("adapter", "text_encoder_adapter", "quantize"):
            section.pop(key, None)
    (model.get("teacher") or model.base).update(quantize=None, offload=False)


def draw_from(plan: Plan, path: str) -> None:
    """Make a model of `plan` draw with the pipeline at `path`, which was exported for a runtime.

    Raises InputError where it is none of this plan's student.
    """
    family, checkpoint = plan.family, Checkpoint(path, "--checkpoint")
    family.runtime = RuntimeFolder(checkpoint, str(plan.dtype).removeprefix("torch."), "model.dtype")
    index, where = checkpoint.read_json("model_index.json"), f"--checkpoint={path} is no export of this config's"
    if index["_class_name"] != family.pipeline_class.__name__:
        raise InputError(f"{where} student: a {index['_class_name']}; needed is a {family.pipeline_class.__name__}")
    theirs = checkpoint.read_json(f"{family.denoiser_name}/config.json")
    found, planned = (state_on_meta(family.denoiser_class, config) for config in (theirs, plan.config))
    if difference := first_difference(found, planned):
        raise InputError(f"{where} student: {difference}; give the config that it was trained with")
    setattr(*((plan, "checkpoint") if hasattr(plan, "checkpoint") else (family, "denoiser")), checkpoint)


def read_weights(file: str, averaged: bool | None = None) -> dict[str, Tensor]:
    """What a run trained, from its checkpoint `file`: the EMA where it kept one, but with `averaged=False` never.

    Raises InputError where `averaged=True` asks for an EMA that the run did not keep.
    """
    sharded = is_sharded_checkpoint(file)
    saved = load(file) if sharded else torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    raw = saved.get("ema_state_dict")  # so EMAHook calls what is not averaged: it swaps the two before a save
    if averaged and raw is None:
        raise InputError(f"--ema: {file} is of a run that kept no EMA; leave the option out")
    if averaged is not False or raw is None:
        return {name: tensor for name, tensor in saved["state_dict"].items() if not name.startswith("critics.")}
    return {name.removeprefix("module."): tensor for name, tensor in raw.items() if name.startswith("module.")}
