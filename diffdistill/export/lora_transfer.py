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
from diffdistill.families.architectures import hub_names, load_architecture, planning
from diffdistill.families.base import Family
from diffdistill.families.known import known_families
from diffdistill.files import check_new_folder, write_whole
from diffdistill.models.student import StudentPlan
from diffdistill.students.cut import LayerMap, build_on_meta, path_matches
from diffdistill.students.size import kept_layers

OUTSIDE = "outside the stages"


def check_models(lora: Lora, family: Family, path: str) -> None:
    """Raise InputError for a LoRA at `path` of models that a pipeline of `family` does not have."""
    if foreign := lora.keys() - {family.denoiser_name, *family.models}:
        layers = [layer for model in foreign if not model.startswith("text_encoder") for layer in lora[model]]
        raise InputError(
            f"LORA={path}: it adapts {min(foreign)}, which the teacher {family.checkpoint.name} does not have;"
            f" {origin_of(layers, family)}"
        )


def check_base(adapted: Layers, teacher: Mapping[str, Tensor], path: str, family: Family) -> None:
    """Raise InputError unless every layer of the LoRA at `path` is one of the teacher of `family`, and of its shape."""
    foreign = {}
    for layer, parts in adapted.items():
        first, second = parts["lora_A.weight"], parts["lora_B.weight"]
        made_for, weight = (len(second), *first.shape[1:]), teacher.get(f"{layer}.weight")
        if weight is None:
            foreign[layer] = "no such layer"
        elif made_for != tuple(weight.shape):
            foreign[layer] = f"{made_for} and not {tuple(weight.shape)}"
    if foreign:
        unknown = list(adapted) if any(f"{layer}.weight" not in teacher for layer in foreign) else []
        some = ", ".join(f"{layer} ({why})" for layer, why in list(foreign.items())[:3])
        raise InputError(
            f"LORA={path}: {len(foreign)} of its {len(adapted)} layers of the {family.denoiser_name} do not fit the teacher"
            f" {family.checkpoint.name}, such as {some}; {origin_of(unknown, family)}"
        )


def origin_of(layers: Sequence[str], family: Family) -> str:
    """Says for which pipeline a LoRA of those layers was made, if the known architectures tell, and not for `family`."""
    wanted, own = {layer.removeprefix("lora_unet_").replace(".", "_") for layer in layers}, family.pipeline_class.__name__
    found = set()
    for name in sorted(set(hub_names().values())) if wanted else ():
        files = load_architecture(name)
        kind = known_families().get(files.get("model_index.json", {}).get("_class_name"))
        if kind and kind.pipeline_class.__name__ not in found:
            denoiser = build_on_meta(kind.denoiser_class, files[f"{kind.denoiser_name}/config.json"])
            if wanted <= {module.replace(".", "_") for module, _ in denoiser.named_modules()}:
                found.add(kind.pipeline_class.__name__)
    if found and own not in found:
        return f"it was made for a {' or '.join(sorted(found))}, and this is a {own}"
    return "it was made for another base"


def counterparts(
    names: Sequence[str], layers: LayerMap, student: Mapping[str, Tensor], fresh: Sequence[str] = ()
) -> dict[str, str]:
    """The student's name of each of the teacher's layers `names` that it keeps.

    `student` tells which layers there are: the last stage of a thinned UNet has no sampler, whatever the keep list says. A
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


def count_kept(lora: Lora, kept: Mapping[str, str], denoiser: str, stages: Sequence[str]) -> dict[str, dict]:
    """Adapted layers and the sum of the norms of their deltas, in all and kept, for every stage and text encoder.

    `stages` are those of the model `denoiser` of the pipeline, in the order in which they run.
    """
    rows = {name: dict(layers=0, layers_kept=0, norm=0.0, norm_kept=0.0) for name in (*stages, OUTSIDE, *sorted(lora))}
    for model, adapted in lora.items():
        for layer, parts in adapted.items():
            stays = model != denoiser or layer in kept
            stage = model if model != denoiser else next((s for s in stages if layer.startswith(f"{s}.")), OUTSIDE)
            row, norm = rows[stage], delta_norm(parts)
            row["layers"] += 1
            row["layers_kept"] += stays
            row["norm"] += norm
            row["norm_kept"] += norm if stays else 0.0
    return {name: row for name, row in rows.items() if row["layers"]}


def plan_transfer(config: Config, what: str) -> StudentPlan:
    """The plan of the student of `config`, for `what` its teacher has. Raises InputError where there is no student."""
    model = config.model
    # The keep list alone decides; no pairs need to be found, and no weights of the student read.
    model.student = dict(model.get("student") or {}, checkpoint=None)
    model.losses = dict()
    with planning():
        plan = check_model(model) if "teacher" in model else None
    if plan is None:
        raise InputError(
            f"{Path(config.filename).name}: a {model.type} has no student of its own; {what} of its base fits it as it is."
            " Name a config that distills a student from that base"
        )
    return plan


def transfer_lora(path: str, config: Config, out: str) -> dict:
    """Write the LoRA at `path` of the teacher of `config`, for its student, into the folder `out`; returns the figures.

    The file loads with `load_lora_weights`. Parts of text encoders stay, as student and teacher share these.
    """
    check_new_folder(out, "OUT")
    plan = plan_transfer(config, "a LoRA")
    family = plan.family
    teacher = build_on_meta(family.denoiser_class, family.denoiser_config)
    student = build_on_meta(family.denoiser_class, plan.config)
    lora = read_lora(path, type(family), teacher.config)
    check_models(lora, family, path)
    adapted = lora.get(family.denoiser_name, {})
    check_base(adapted, teacher.state_dict(), path, family)
    kept = counterparts(list(adapted), plan.layers, student.state_dict(), plan.fresh)
    moved = {**lora, family.denoiser_name: {new: adapted[old] for old, new in kept.items()}}
    if not any(moved.values()):
        raise InputError(f"LORA={path}: the student keeps none of its {len(adapted)} layers, e.g. {min(adapted)}")
    save(moved, family.pipeline_class, Path(out))
    stages = count_kept(lora, kept, family.denoiser_name, list(kept_layers(teacher, plan.layers)))
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
    """Print what `transfer_lora` returns: a line for every stage of the teacher's denoiser and for every text encoder."""
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
