"""The first weights of a student: copies of its teacher's."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.students.cut import LayerMap, build, path_matches, plan_student

FIRST_WEIGHTS = ("kept", "mean")


def check_first_weights(kind: str, checkpoint: str | None) -> None:
    """Raise InputError for first weights of an unknown kind, or of none, where there is a checkpoint."""
    if kind not in FIRST_WEIGHTS:
        raise InputError(f"model.student.first_weights={kind!r} is unknown; use 'kept' or 'mean'")
    if checkpoint and kind != FIRST_WEIGHTS[0]:
        raise InputError(
            f"model.student.first_weights={kind!r}, but model.student.checkpoint={checkpoint} has the first weights; leave"
            " one of them out"
        )


def find_sources(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], layers: LayerMap, fresh: Sequence[str] = ()
) -> dict[str, str]:
    """The teacher's tensor behind each of the student's, but for those whose name matches a pattern in `fresh`.

    Of both only names and shapes are read, so state dicts on the meta device will do. Raises InputError for a tensor of the
    student without a source of its shape, and for a pattern that matches nothing.
    """
    for pattern in fresh:
        if not any(path_matches(pattern, name) for name in student):
            near = get_close_matches(pattern, student, n=3, cutoff=0.0)
            raise InputError(f"student.fresh: {pattern!r} matches no tensor of the student; the nearest: {', '.join(near)}")
    sources = {}
    for name, tensor in student.items():
        if any(path_matches(pattern, name) for pattern in fresh):
            continue
        origin = layers.to_teacher(name)
        found = tuple(teacher[origin].shape) if origin in teacher else "nothing"
        if found != tuple(tensor.shape):
            raise InputError(
                f"student.keep: {name} {tuple(tensor.shape)} has no source of its shape in the teacher"
                f" ({origin}: {found}); keep other layers, or declare it in student.fresh"
            )
        sources[name] = origin
    return sources


def make_student(
    teacher: nn.Module, keep: Mapping, fresh: Sequence[str] = (), first_weights: str = "kept"
) -> tuple[nn.Module, LayerMap]:
    """A student with the kept layers of `teacher` and a copy of their weights, in the teacher's dtype and on its device.

    Tensors whose names match a pattern in `fresh` keep their random first values; see `find_sources`. With `first_weights`
    "mean" a layer starts as the mean of the kept one and those dropped behind it, up to the next kept one (Amber-Image).
    """
    config, layers = plan_student(type(teacher), teacher.config, keep)
    with torch.device("cpu" if fresh else "meta"):
        student = build(type(teacher), config)
    source, weights = teacher.state_dict(), student.state_dict()
    for name, origin in find_sources(weights, source, layers, fresh).items():
        if first_weights == "mean":
            together = [source[each] for each in layers.interval(origin) if each in source]
            together = [tensor for tensor in together if tensor.shape == source[origin].shape]
            weights[name] = torch.stack(together).mean(0) if len(together) > 1 else source[origin].clone()
        else:
            weights[name] = source[origin].clone()
    student.load_state_dict(weights, strict=True, assign=True)
    copy_tables(student, teacher, layers)
    return student, layers


def copy_tables(student: nn.Module, teacher: nn.Module, layers: LayerMap) -> None:
    """Copy what is in no state dict: tables of positions, in buffers that are not saved or in plain attributes."""
    for name, module in student.named_modules():
        for key, value in [*vars(module).items(), *module.named_buffers(recurse=False)]:
            if isinstance(value, Tensor) and value.is_meta:
                setattr(module, key, getattr(teacher.get_submodule(layers.to_teacher(name)), key).clone())
