"""What a run trained, as a whole diffusers pipeline with a model card."""

import copy
from pathlib import Path

from diffusers import DiffusionPipeline
from mmengine.config import Config
from torch import nn

from diffdistill.errors import InputError
from diffdistill.export.card import Card, Source, check_measured, find_source, read_speed, write_card
from diffdistill.export.card.licence import find_licence
from diffdistill.families.graphs import check_runtime, write_runtime_pipeline
from diffdistill.families.runtimes import runtime_of
from diffdistill.families.saving import save_pipeline
from diffdistill.families.single_file import is_single_file
from diffdistill.files import check_new_folder, write_whole
from diffdistill.models.adapters import take_out
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import DTYPES
from diffdistill.models.saved import adapter_files, write_adapters
from diffdistill.registry import MODELS
from diffdistill.report.record import network_figures
from diffdistill.runs.load import Trained, exported_student, trains_adapters


def export_pipeline(
    config: Config,
    checkpoint: str | None,
    out: str,
    dtype: str,
    fuse_lora: bool = False,
    averaged: bool | None = None,
    licence: str | None = None,
    speed: str | None = None,
    name: str | None = None,
    runtime: str | None = None,
    compress: str | None = None,
) -> Path:
    """Write the pipeline of `config` around what it trained to the folder `out`, in `dtype`; returns the folder.

    Args:
        checkpoint: a `.pth` or a folder that a run exported; by default the one that the config's run exported.
        fuse_lora: add an adapter to the weights. Otherwise it is written beside its base, for
            `pipe.load_lora_weights(out)`.
        averaged: of a `.pth`, the EMA (True) or the raw weights (False); by default the EMA where there is one.
        licence: of the teacher, or base; by default as its own model card says.
        speed: a file of `tools/benchmark.py inference --json`, for the model card.
        name: on the hub, for the model card.
        runtime: "onnx" or "openvino" writes graphs in the place of torch's weights; `compress` is for these.
    """
    check_new_folder(out, "OUT")
    measured = read_speed(speed) if speed else None
    if runtime:
        check_for_runtime(config, runtime, dtype, compress, fuse_lora)
    trained, source = open_trained(config, checkpoint, fuse_lora, averaged)
    source.compressed = compress
    model = trained.load(averaged).to("cpu").eval()
    if measured:
        check_measured(measured, network_figures(model)["student"]["parameters"])
    found = find_licence(model.family.checkpoint, "teacher" if model.distills else "base", licence)

    def write(folder: Path) -> None:
        adapted = list(model.adapted)
        write_pipeline(model, folder, dtype, fuse_lora, runtime, compress)
        files = adapter_files(folder, adapted)
        write_card(model, Card(name or Path(out).name, source, found, dtype, files, measured, runtime), folder)

    return write_whole(write, Path(out))


def check_for_runtime(config: Config, runtime: str, dtype: str, compress: str | None, fuse_lora: bool) -> None:
    """Raise InputError for a pipeline of `config` that cannot be exported for `runtime`."""
    origin = MODELS.get((config.model.get("teacher") or config.model.base).type)
    check_runtime(runtime, origin.pipeline_class, dtype, compress)
    if trains_adapters(config.model) and not fuse_lora:
        raise InputError(f"--runtime={runtime}: a graph has no place for an adapter; add --fuse-lora")


def open_trained(config: Config, checkpoint: str | None, fuse_lora: bool, averaged: bool | None) -> tuple[Trained, Source]:
    """What `config` has trained, to be loaded for an export, and the run it is from; for arguments see `export_pipeline`."""
    if fuse_lora and not trains_adapters(config.model):
        raise InputError(f"--fuse-lora: {Path(config.filename).name} trains no adapter; leave it out")
    checkpoint = checkpoint or exported_student(config)
    if not Path(checkpoint).exists():
        raise InputError(f"--checkpoint={checkpoint}: no such file or folder")
    if made := runtime_of(checkpoint):
        raise InputError(f"--checkpoint={checkpoint} is an export for {made.title} already; give what the run has trained")
    as_given = copy.deepcopy(config)
    # No loss: nothing but what is exported is loaded. In fp32, so that an adapter is added without rounding.
    config.merge_from_dict(dict(model=dict(losses=dict(_delete_=True), dtype="float32")))
    # What is frozen is exported as it was.
    (config.model.get("teacher") or config.model.base).update(quantize=None, offload=False)
    check_kind(checkpoint, averaged)
    return Trained(config, checkpoint), find_source(as_given, checkpoint, averaged)


def check_kind(checkpoint: str, averaged: bool | None) -> None:
    """Raise InputError where weights of one kind are asked of a folder that holds the other, or does not say which."""
    path = Path(checkpoint)
    if averaged is None or (path.is_file() and not is_single_file(checkpoint)):
        return
    option = "--ema" if averaged else "--raw"
    has_average = find_source(Config(), checkpoint).results.get("ema")
    if has_average is None or has_average != averaged:
        holds = "does not say which weights it holds" if has_average is None else (
            "holds the averaged weights" if has_average else "is of a run that kept no EMA"
        )  # fmt: skip
        raise InputError(
            f"{option}: the folder {checkpoint} {holds}; give a .pth of the run, such as {path.parent}/iter_100.pth"
        )


def write_pipeline(
    model: DiffusionModel,
    folder: Path,
    dtype: str,
    fuse_lora: bool,
    runtime: str | None = None,
    compress: str | None = None,
) -> None:
    """Write the pipeline around what was trained to `folder`, in `dtype`; an adapter is written beside it or fused.

    `model` is used up: its adapters are taken out and its weights cast.
    """
    if model.adapted and not fuse_lora:
        write_adapters(model, folder)
    if runtime:  # traced in fp32, whatever dtype the graphs are stored in
        write_runtime_pipeline(finished_pipeline(model, "float32", fuse_lora), folder, runtime, dtype, compress)
    else:
        save_pipeline(finished_pipeline(model, dtype, fuse_lora), folder)


def finished_pipeline(model: DiffusionModel, dtype: str, fuse_lora: bool) -> DiffusionPipeline:
    """The pipeline around what was trained, in `dtype`; an adapter is taken out or fused. `model` is used up."""
    for name in model.adapted:
        take_out(model.component(name), fuse_lora)
    pipeline = model.family.assemble(model.frozen.pipeline, model.student)
    pipeline.scheduler = model.exported_scheduler()
    for model in pipeline.components.values():
        if isinstance(model, nn.Module):
            nn.Module.to(model, DTYPES[dtype])
    return pipeline
