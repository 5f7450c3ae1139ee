"""LoRAs of a teacher on its student, whose layers have other numbers.

An adapted layer is renamed by the layer map, or dropped where the student has lost it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.export.lora_file import Layers, Lora, read_lora
from diffdistill.families.architectures import planning
from diffdistill.files import check_folder, write_whole
from diffdistill.students.cut import LayerMap, build_on_meta, path_matches

OUTSIDE = "outside the stages"
ORDER = ("down_blocks", "mid_block", "up_blocks", OUTSIDE, "text_encoder", "text_encoder_2")


def check_base(adapted: Layers, teacher: Mapping[str, Tensor], path: str, base: str) -> None:
    """Raise InputError unless every layer of the LoRA at `path` is one of the teacher `base`, and of its shape."""
    foreign = {}
    for layer, parts in adapted.items():
        first, second = parts["lora_A.weight"], parts["lora_B.weight"]
        made_for, weight = (len(second), *first.shape[1:]), teacher.get(f"{layer}.weight")
        if weight is None:
            foreign[layer] = "no such layer"
        elif made_for != tuple(weight.shape):
            foreign[layer] = f"{made_for} and not {tuple(weight.shape)}"
    if foreign:
        some = ", ".join(f"{layer} ({why})" for layer, why in list(foreign.items())[:3])
        raise InputError(
            f"LORA={path}: {len(foreign)} of its {len(adapted)} layers of the U-Net do not fit the teacher {base}, such as"
            f" {some}; it was made for another base"
        )


def counterparts(
    names: Sequence[str], layers: LayerMap, student: Mapping[str, Tensor], fresh: Sequence[str] = ()
) -> dict[str, str]:
    """The student's name of each of the teacher's layers `names` that it keeps.

    `student` tells which layers there are: the last stage of a thinned U-Net has no sampler, whatever the keep list says. A
    layer whose weight matches a pattern in `fresh` stands for none of the teacher's.
    """
    renamed = {name: layers.to_student(name) for name in names}
    return {
        name: new
        for name, new in renamed.items()
        if f"{new}.weight" in student and not any(path_matches(pattern, f"{new}.weight") for pattern in fresh)
    }


def delta_norm(parts: Mapping[str, Tensor]) -> float:
    """Frobenius norm of lora_B @ lora_A, which is never formed: its square is the trace of (B^T B)(A A^T)."""
    first, second = (parts[f"lora_{name}.weight"].flatten(1).double() for name in "AB")
    return math.sqrt(max(0.0, torch.sum((second.T @ second) * (first @ first.T)).item()))


def stage_of(layer: str) -> str:
    """The stage of the U-Net that a layer belongs to."""
    parts = layer.split(".")
    if parts[0] in ("down_blocks", "up_blocks"):
        return ".".join(parts[:2])
    return parts[0] if parts[0] == "mid_block" else OUTSIDE


def count_kept(lora: Lora, kept: Mapping[str, str]) -> dict[str, dict]:
    """Adapted layers and the sum of the norms of their deltas, in all and kept, for every stage and text encoder."""
    rows: dict[str, dict] = {}
    for model, adapted in lora.items():
        for layer, parts in adapted.items():
            stays = model != "unet" or layer in kept
            stage = stage_of(layer) if model == "unet" else model
            row = rows.setdefault(stage, dict(layers=0, layers_kept=0, norm=0.0, norm_kept=0.0))
            norm = delta_norm(parts)
            row["layers"] += 1
            row["layers_kept"] += stays
            row["norm"] += norm
            row["norm_kept"] += norm if stays else 0.0
    return dict(sorted(rows.items(), key=lambda row: (ORDER.index(row[0].split(".")[0]), row[0])))


def transfer_lora(path: str, config: Config, out: str) -> dict:
    """Write the LoRA at `path` of the teacher of `config`, for its student, into the folder `out`; returns the figures.

    The file loads with `load_lora_weights`. Parts of text encoders stay, as student and teacher share these.
    """
    check_folder(out, "OUT")
    if Path(out).exists() and any(Path(out).iterdir()):
        raise InputError(f"{out} is not empty; name a new folder")
    model = config.model
    # The keep list alone decides; no pairs need to be found, and no weights of the student read.
    model.student = dict(model.get("student") or {}, checkpoint=None)
    model.losses = dict()
    with planning():
        plan = check_model(model) if "teacher" in model else None
    if plan is None:
        raise InputError(
            f"{Path(config.filename).name}: a {model.type} has no student of its own; a LoRA of its base fits it as it is."
            " Name a config that distills a student from that base"
        )
    family = plan.family
    teacher = build_on_meta(family.denoiser_class, family.denoiser_config)
    student = build_on_meta(family.denoiser_class, plan.config)
    lora = read_lora(path, family.pipeline_class, teacher.config)
    if foreign := lora.keys() - {family.denoiser_name, *family.models}:
        raise InputError(
            f"LORA={path}: it adapts {min(foreign)}, which the teacher {family.checkpoint.name} does not have;"
            " it was made for another base"
        )
    adapted = lora.get(family.denoiser_name, {})
    check_base(adapted, teacher.state_dict(), path, family.checkpoint.name)
    kept = counterparts(list(adapted), plan.layers, student.state_dict(), plan.fresh)
    moved = {**lora, family.denoiser_name: {new: adapted[old] for old, new in kept.items()}}
    if not any(moved.values()):
        raise InputError(f"LORA={path}: the student keeps none of its {len(adapted)} layers, e.g. {min(adapted)}")
    save(moved, family.pipeline_class, Path(out))
    stages = count_kept(lora, kept)
    return dict(
        teacher=family.checkpoint.name,
        stages=stages,
        total={key: sum(row[key] for row in stages.values()) for key in ("layers", "layers_kept", "norm", "norm_kept")},
        dropped=sorted(adapted.keys() - kept.keys()),
    )


def save(lora: Lora, pipeline_class: type, out: Path) -> None:
    """Write `lora` by the pipeline class's own `save_lora_weights`, whole or not at all."""
    models = {}
    for model, layers in lora.items():
        named = {f"{layer}.{part}": tensor for layer, parts in layers.items() for part, tensor in parts.items()}
        models[f"{model}_lora_layers"] = named
    write_whole(lambda folder: pipeline_class.save_lora_weights(folder, **models), out)


def print_figures(figures: Mapping, console: Console | None = None) -> None:
    """Print what `transfer_lora` returns: a line for every stage of the teacher's U-Net and for every text encoder."""
    table = Table("stage", box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("adapted layers", "kept", "share of the change kept"):
        table.add_column(title, justify="right")

    def row(name: str, counts: Mapping) -> None:
        share = f"{100 * counts['norm_kept'] / counts['norm']:.1f} %" if counts["norm"] else "–"
        table.add_row(name, str(counts["layers"]), str(counts["layers_kept"]), share)

    for name, counts in figures["stages"].items():
        row(name, counts)
    table.add_section()
    row("in all", figures["total"])
    (console or Console(highlight=False)).print(table)
