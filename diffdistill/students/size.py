"""How large a denoiser is: parameters, operations, layers, and which of these a student keeps."""

import math
from collections.abc import Sequence

from torch import nn

from diffdistill.students.cut import LayerMap, path_matches
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import pass_on_meta


def count(model: nn.Module) -> int:
    """The number of parameters of `model`."""
    return sum(parameter.numel() for parameter in model.parameters())


def measure(denoiser: nn.Module, layers: Sequence[str] = (), size: int | None = None) -> tuple[dict, int]:
    """Parameters and GMACs of a denoiser of `build_on_meta`, and the number of elements in the features of `layers`.

    One call with batch 1 on square latents `size` wide, by default of its native resolution; MACs are half of torch's FLOP
    count. The only batched products of two activations are those of attention (queries x keys, weights x values): leaving
    out `bmm` leaves out just these.
    """
    shapes, flops = pass_on_meta(denoiser, size)
    products = sum(value for operation, value in flops.items() if "bmm" in str(operation) or "attention" in str(operation))
    parts = {label: getattr(denoiser, module, None) for label, module in rules_of(type(denoiser)).parts.items()}
    figures = dict(
        parameters=count(denoiser),
        parts={label: count(part) if part is not None else 0 for label, part in parts.items()},
        gmacs=rounded(sum(flops.values()) / 2e9),
        gmacs_without_attention=rounded((sum(flops.values()) - products) / 2e9),
        layers=layer_counts(denoiser),
    )
    return figures, sum(math.prod(shapes[layer]) for layer in layers)


def rounded(gmacs: float) -> float:
    """`gmacs` with two decimals, or with four significant digits where it is below 1."""
    return round(gmacs, 2) if gmacs >= 1 else float(f"{gmacs:.4g}")


def layer_counts(denoiser: nn.Module) -> dict[str, int]:
    """How many layers of each kind a denoiser has; the kind is the last part of their list's path."""
    rules = rules_of(type(denoiser))
    counts: dict[str, int] = {}
    for name, module in denoiser.named_modules():
        if rules.place(name) is not None or any(path_matches(pattern, name) for pattern in rules.layers):
            kind = name.split(".")[-2]
            counts[kind] = counts.get(kind, 0) + (module is not None)
    return counts


def kept_layers(teacher: nn.Module, layers: LayerMap) -> dict[str, dict[str, bool]]:
    """Stage -> its layers in the order in which they run -> whether the student keeps them.

    In a UNet a ResNet, or the transformer layer of an attention, is one entry, in a transformer a block; named as in the
    teacher.
    """
    rules = rules_of(type(teacher))
    stages: dict[str, list[tuple[tuple, str]]] = {}
    for name, _ in teacher.named_modules():
        if place := rules.place(name):
            stages.setdefault(place[0], []).append((place[1], name))
    order = list(rules.parts.values())
    running = sorted(stages, key=lambda stage: (order.index(stage.split(".")[0]), stage))
    return {stage: {name: layers.to_student(name) is not None for _, name in sorted(stages[stage])} for stage in running}
