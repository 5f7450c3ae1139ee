"""IP-Adapters (Ye et al., 2023) of a teacher on its student: their layers bear the numbers of the U-Net's attentions."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.files import check_no_pickle
from diffdistill.students.cut import LayerMap

KEY = re.compile(r"ip_adapter\.(\d+)\.(.+)")
PROJECTION = "image_proj."


def read_ip_adapter(file: Path, where: str) -> dict[str, Tensor]:
    """The tensors of an IP-Adapter's file, `ip_adapter.<number>.<name>` and `image_proj.<name>`.

    Raises InputError, beginning with `where`, for a file of another kind.
    """
    try:
        if file.suffix == ".safetensors":
            tensors = load_file(file)
        else:
            check_no_pickle(file, where)
            parts = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    except (SafetensorError, OSError, RuntimeError, AttributeError, EOFError):
        raise InputError(f"{where} is damaged, or no IP-Adapter; get it again") from None
    if not any(map(KEY.fullmatch, tensors)) or not any(name.startswith(PROJECTION) for name in tensors):
        raise InputError(
            f"{where} is no IP-Adapter (it has no ip_adapter.* and {PROJECTION}*); known are folders of a ControlNetModel"
            " or T2IAdapter of diffusers, and files of IP-Adapters; for a LoRA there is transfer_lora"
        )
    return tensors


def renumbered(
    tensors: Mapping[str, Tensor], teacher: nn.Module, student: nn.Module, layers: LayerMap, where: str
) -> dict[str, Tensor]:
    """The IP-Adapter of `teacher` for `student`: the kept layers under their new numbers. Of both only names are read.

    Raises InputError, beginning with `where`, for an IP-Adapter of another U-Net.
    """
    theirs, ours = list(teacher.attn_processors), list(student.attn_processors)
    check_base(tensors, teacher, theirs, where)
    numbers = {theirs.index(layers.to_teacher(name)): number for number, name in enumerate(ours)}
    renamed = {}
    for name, tensor in tensors.items():
        found = KEY.fullmatch(name)
        if not found:
            renamed[name] = tensor
        elif int(found[1]) in numbers:
            renamed[f"ip_adapter.{numbers[int(found[1])]}.{found[2]}"] = tensor
    return renamed


def check_base(tensors: Mapping[str, Tensor], teacher: nn.Module, names: list[str], where: str) -> None:
    """Raise InputError unless the cross-attentions that the IP-Adapter has are those of `teacher`, of their widths."""
    weights = teacher.state_dict()
    cross = {number: name.removesuffix(".processor") for number, name in enumerate(names) if "attn2" in name}
    given = {
        int(found[1]): tensor for name, tensor in tensors.items() if (found := KEY.fullmatch(name)) and "to_k_ip" in name
    }
    wrong = [
        number
        for number in sorted(given.keys() | cross.keys())
        if number not in given or number not in cross or len(given[number]) != len(weights[f"{cross[number]}.to_k.weight"])
    ]
    if wrong:
        raise InputError(
            f"{where} has {len(given)} cross-attentions and the teacher's U-Net {len(cross)}, and they differ from number"
            f" {wrong[0]} on: it was made for another base"
        )
