"""How large a denoiser is: parameters, operations, layers, and which of these a student keeps."""

import math
from collections.abc import Sequence

from torch import nn

from diffdistill.students.cut import LayerMap
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
    parts = {name: getattr(denoiser, f"{name}_block{'' if name == 'mid' else 's'}", None) for name in ("down", "mid", "up")}
    figures = dict(
        parameters=count(denoiser),
        **{name: count(part) if part is not None else 0 for name, part in parts.items()},
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
    counts: dict[str, int] = {}
    for path, module in denoiser.named_modules():
        kind = path.rsplit(".", 1)[-1]
        if isinstance(module, nn.ModuleList) and (kind in ("resnets", "attentions") or kind.endswith("transformer_blocks")):
            counts[kind] = counts.get(kind, 0) + sum(layer is not None for layer in module)
    return counts


def kept_layers(teacher: nn.Module, layers: LayerMap) -> dict[str, dict[str, bool]]:
    """Block -> its layers in the order in which they run -> whether the student keeps them.

    A ResNet, or the transformer layer of an attention, is one entry, named as in the teacher.
    """
    blocks: dict[str, dict[str, bool]] = {}
    for name, module in teacher.named_modules():
        parts = name.split(".")
        kind, block = parts[-2] if len(parts) > 1 else "", name.split(".resnets")[0].split(".attentions")[0]
        if parts[-1].isdigit() and (kind == "resnets" or kind.endswith("transformer_blocks")) and module is not None:
            blocks.setdefault(block, {})[name] = layers.to_student(name) is not None
    order = ["down_blocks", "mid_block", "up_blocks"]
    running = sorted(blocks, key=lambda block: (order.index(block.split(".")[0]), block))
    return {block: dict(sorted(blocks[block].items(), key=lambda item: running_order(item[0]))) for block in running}


def running_order(name: str) -> tuple[int, int, int]:
    """The place of a layer in its block of a UNet: ResNet i before attention i; a mid block's first ResNet before all."""
    parts = name.split(".")
    if "attentions" in parts:
        return int(parts[parts.index("attentions") + 1]), 1, int(parts[-1])
    return (int(parts[-1]) - 1, 2, 0) if parts[0] == "mid_block" else (int(parts[-1]), 0, 0)
