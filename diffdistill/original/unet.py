"""Names of a U-Net's tensors in the original checkpoints (Rombach et al., 2022), whichever layers a cut has left of it.

There the ResNets and samplers of all stages are numbered in the order in which they run, each with the attention behind it.
So the numbers follow from the layers that are there, and the layers from the numbers.
"""

from collections.abc import Iterable
from itertools import accumulate, count

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
MIDDLE = {"mid_block.resnets.0": 0, "mid_block.attentions.0": 1, "mid_block.resnets.1": 2}
FULL = 3  # ResNets and sampler of a full model's stage


def modules_in(names: Iterable[str]) -> set[str]:
    """The modules that have tensors of these `names` in them, by path."""
    return {path for name in names for path in accumulate(name.split("."), "{}.{}".format)}


def length(modules: set[str], path: str) -> int:
    """The length of the list `path`."""
    return next(index for index in count() if f"{path}.{index}" not in modules)


def unet_places(names: Iterable[str], gapped: bool = False) -> dict[str, str]:
    """Module of a U-Net of diffusers, with tensors of these `names` -> its name in the original layout.

    `gapped` leaves out the numbers of the ResNets that a full model has and a cut with one in a stage has not, as
    stable-diffusion.cpp wants it.
    """
    modules, number = modules_in(names), 1
    places = dict(OUTSIDE) | {module: f"middle_block.{slot}" for module, slot in MIDDLE.items()}
    for stage in range(length(modules, "down_blocks")):
        block, number = f"down_blocks.{stage}", FULL * stage + 1 if gapped else number
        for layer in range(length(modules, f"{block}.resnets")):
            places[f"{block}.resnets.{layer}"] = f"input_blocks.{number}.0"
            places[f"{block}.attentions.{layer}"] = f"input_blocks.{number}.1"
            number += 1
        number = FULL * (stage + 1) if gapped else number
        places[f"{block}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
        number += 1
    number = 0
    for stage in range(length(modules, "up_blocks")):
        block, number = f"up_blocks.{stage}", FULL * stage if gapped else number
        for layer in range(length(modules, f"{block}.resnets")):
            places[f"{block}.resnets.{layer}"] = f"output_blocks.{number}.0"
            places[f"{block}.attentions.{layer}"] = f"output_blocks.{number}.1"
            number += 1
        last = FULL * stage + FULL - 1 if gapped else number - 1
        behind_attention = stage > 0 if gapped else f"{block}.attentions" in modules
        places[f"{block}.upsamplers.0.conv"] = f"output_blocks.{last}.{1 + behind_attention}.conv"
    return places


def unet_names(names: Iterable[str], gapped: bool = False) -> dict[str, str]:
    """Name of a tensor of diffusers' U-Net -> its name in the original layout, for each of `names`; see `unet_places`."""
    names = list(names)
    places = unet_places(names, gapped)
    renamed = {}
    for name in names:
        module = next(path for path in accumulate(name.split("."), "{}.{}".format) if path in places)
        rest = name.removeprefix(f"{module}.")
        if ".resnets." in module:
            layer, _, kind = rest.partition(".")
            rest = f"{RESNET[layer]}.{kind}"
        renamed[name] = f"{places[module]}.{rest}"
    return renamed


def read_names(names: Iterable[str]) -> dict[str, str]:
    """Name of a tensor of a U-Net in the original layout -> its name in diffusers, for each of `names` that has one.

    The numbers may have gaps.
    """
    names = list(names)
    modules = modules_in(names)
    places = {place: module for module, place in OUTSIDE.items()}
    places |= {f"middle_block.{slot}": module for module, slot in MIDDLE.items()}
    for side, block in (("input_blocks", "down_blocks"), ("output_blocks", "up_blocks")):
        stage = layer = 0
        for number in sorted({int(name.split(".")[1]) for name in names if name.startswith(f"{side}.")}):
            place = f"{side}.{number}"
            if f"{place}.0.in_layers" in modules:
                places[f"{place}.0"] = f"{block}.{stage}.resnets.{layer}"
                if f"{place}.1.transformer_blocks" in modules:
                    places[f"{place}.1"] = f"{block}.{stage}.attentions.{layer}"
                layer += 1
            samplers = [sampler for sampler in ("0.op", "1.conv", "2.conv") if f"{place}.{sampler}" in modules]
            for sampler in samplers:
                kind = "downsamplers" if sampler == "0.op" else "upsamplers"
                places[f"{place}.{sampler}"] = f"{block}.{stage}.{kind}.0.conv"
                stage, layer = stage + 1, 0
    inside, renamed = {place: layer for layer, place in RESNET.items()}, {}
    for name in names:
        paths = [path for path in accumulate(name.split("."), "{}.{}".format) if path in places]
        if not paths:
            continue
        module, rest = places[paths[-1]], name.removeprefix(f"{paths[-1]}.")
        if ".resnets." in module:
            layer, _, kind = rest.rpartition(".")
            rest = f"{inside.get(layer, layer)}.{kind}"
        renamed[name] = f"{module}.{rest}"
    return renamed


def depths(names: Iterable[str]) -> tuple[tuple[int, ...], int | None, tuple[int, ...]]:
    """Transformer layers behind each ResNet of the way down, in the mid block, and behind each ResNet of the way up.

    They are 0 without an attention; the mid block's is None where there is no mid block.
    """
    modules = modules_in(names)

    def behind(path: str) -> int:
        return length(modules, f"{path}.transformer_blocks")

    ways = [
        tuple(
            behind(f"{way}.{stage}.attentions.{layer}")
            for stage in range(length(modules, way))
            for layer in range(length(modules, f"{way}.{stage}.resnets"))
        )
        for way in ("down_blocks", "up_blocks")
    ]
    return ways[0], behind("mid_block.attentions.0") if "mid_block" in modules else None, ways[1]


def kept_layers(names: Iterable[str], stages: int) -> dict[str, list[int]]:
    """What a U-Net of diffusers with tensors of these `names` has kept of one with that many stages, list by list.

    Any choice of the kept layers would give the same config.
    """
    modules = modules_in(names)
    downs, ups = length(modules, "down_blocks"), length(modules, "up_blocks")
    first = stages - ups
    kept = {"down_blocks": list(range(downs)), "up_blocks": list(range(first, stages))}
    blocks = {f"down_blocks.{stage}": f"down_blocks.{stage}" for stage in range(downs)}
    blocks |= {f"up_blocks.{stage}": f"up_blocks.{first + stage}" for stage in range(ups)}
    for ours, theirs in {**blocks, "mid_block": "mid_block"}.items():
        for kind in ("resnets", "attentions"):
            kept[f"{theirs}.{kind}"] = list(range(length(modules, f"{ours}.{kind}")))
        for index in kept[f"{theirs}.attentions"]:
            layers = f"attentions.{index}.transformer_blocks"
            kept[f"{theirs}.{layers}"] = list(range(length(modules, f"{ours}.{layers}")))
    return kept
