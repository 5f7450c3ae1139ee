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
from diffdistill.families.packed import WAYS, check_torchao, forget_packing, pack, size_on_disk
from diffdistill.families.runtimes import runtime_of
from diffdistill.families.saving import save_pipeline
from diffdistill.families.single_file import is_single_file
from diffdistill.files import check_new_folder, write_whole
from diffdistill.models.adapters import take_out
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import DTYPES, Plan
from diffdistill.models.saved import adapter_files, write_adapters
from diffdistill.registry import MODELS
from diffdistill.report.record import network_figures
from diffdistill.runs.load import Trained, exported_student, trains_adapters
from diffdistill.students.cut import build_on_meta
from diffdistill.students.quantization import KEY, Quantization


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
    quantize: str | None = None,
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
        quantize: a key of `WAYS`, for a student that was not trained with few bits; one that was is quantised as trained.
    """
    check_new_folder(out, "OUT")
    measured = read_speed(speed) if speed else None
    if runtime:
        check_for_runtime(config, runtime, dtype, compress, fuse_lora)
    trained, source = open_trained(config, checkpoint, fuse_lora, averaged)
    quantization = find_quantization(trained.plan, quantize, fuse_lora, runtime)
    source.compressed, source.quantize = compress, (quantization or trained.plan.quantization).described
    model = trained.load(averaged).to("cpu").eval()
    if measured:
        check_measured(measured, network_figures(model)["student"]["parameters"])
    found = find_licence(model.family.checkpoint, "teacher" if model.distills else "base", licence)

    def write(folder: Path) -> None:
        adapted = list(model.adapted)
        figures = write_pipeline(model, folder, dtype, fuse_lora, quantization, runtime, compress)
        files = adapter_files(folder, adapted)
        card = Card(name or Path(out).name, source, found, dtype, files, measured, runtime, figures)
        write_card(model, card, folder)

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
    trained, source = Trained(config, checkpoint), find_source(as_given, checkpoint, averaged)
    source.quantize = trained.plan.quantization.described
    return trained, source


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


def find_quantization(plan: Plan, way: str | None, fuse_lora: bool, runtime: str | None = None) -> Quantization:
    """How torch's weights are packed: as the student was trained, or by the `way` that is asked for, or not at all.

    Graphs for a `runtime` hold the same values as plain weights. Raises InputError for both, for an adapter that is not
    fused, for layers that cannot be, and where torchao lacks.
    """
    given = f"--quantize={way}"
    if way and plan.quantization:
        raise InputError(
            f"{given}: the student was trained with {plan.quantization.bits} bits, as its export has; leave it out"
        )
    if way and runtime:
        raise InputError(f"{given}: these are weights of torch's; with --runtime={runtime} give --compress int8 instead")
    if way and plan.adapters and not fuse_lora:
        raise InputError(f"{given}: an adapter beside its base was not trained on quantised weights; give --fuse-lora, too")
    if runtime:
        return Quantization()
    quantization = Quantization(way=way, bits=WAYS[way], key=given) if way else plan.quantization
    if quantization:
        check_torchao(given if way else KEY)
        quantization.layers(build_on_meta(plan.family.denoiser_class, plan.config))
    return quantization


def write_pipeline(
    model: DiffusionModel,
    folder: Path,
    dtype: str,
    fuse_lora: bool,
    quantization: Quantization,
    runtime: str | None = None,
    compress: str | None = None,
) -> dict | None:
    """Write the pipeline around what was trained to `folder`, in `dtype`; an adapter is written beside it or fused.

    `model` is used up: its adapters are taken out and its weights cast. Returns what `pack` does, with the `bytes` on disk,
    and None for weights that are not quantised.
    """
    if model.adapted and not fuse_lora:
        write_adapters(model, folder)
    if runtime:  # traced in fp32, whatever dtype the graphs are stored in
        write_runtime_pipeline(finished_pipeline(model, "float32", fuse_lora), folder, runtime, dtype, compress)
        return None
    student = model.student
    pipeline = finished_pipeline(model, dtype, fuse_lora, uncast=student if quantization else None)
    figures = pack(student, quantization, DTYPES[dtype]) if quantization else None
    save_pipeline(pipeline, folder)
    if figures:
        figures["bytes"] = size_on_disk(folder / model.family.denoiser_name)
        forget_packing(student)  # the card describes the network
    return figures


def finished_pipeline(
    model: DiffusionModel, dtype: str, fuse_lora: bool, uncast: nn.Module | None = None
) -> DiffusionPipeline:
    """The pipeline around what was trained, in `dtype` but for `uncast`; an adapter is taken out or fused.

    `model` is used up.
    """
    for name in model.adapted:
        take_out(model.component(name), fuse_lora)
    pipeline = model.family.assemble(model.frozen.pipeline, model.student)
    pipeline.scheduler = model.exported_scheduler()
    for part in pipeline.components.values():
        if isinstance(part, nn.Module) and part is not uncast:
            nn.Module.to(part, DTYPES[dtype])
    return pipeline
