"""A student is data: which layers of its teacher it keeps (`keep`), and all that follows from that.

`keep` maps patterns of `nn.ModuleList` paths of the teacher's denoiser to the indices that stay. From it come the layer map
(student name -> teacher name), the student's diffusers config, and its first weights.
"""

import functools
import inspect
import itertools
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import rules_of


def path_matches(pattern: str, path: str) -> bool:
    """Whether `path` fits `pattern`, compared part by part: `*` and `[01]` never reach across a dot."""
    parts, globs = path.split("."), pattern.split(".")
    return len(parts) == len(globs) and all(map(fnmatchcase, parts, globs))


def module_lists(model: nn.Module) -> dict[str, int]:
    """The length of every `nn.ModuleList` of `model`, by path."""
    return {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}


class LayerMap:
    """Which teacher layer each student layer stands for.

    Args:
        kept: for every ModuleList path of the teacher, the indices that the student keeps, in the teacher's numbering.
        lengths: of these lists in the teacher.
    """

    def __init__(self, kept: Mapping[str, Sequence[int]], lengths: Mapping[str, int] | None = None):
        self.kept, self.lengths = dict(kept), dict(lengths or {})

    def to_teacher(self, name: str) -> str:
        """The teacher's name of the student's module, stream ("module:stream") or tensor `name`."""
        name, colon, stream = name.partition(":")
        parts: list[str] = []
        for part in name.split("."):
            indices = self.kept.get(".".join(parts)) if part.isdigit() else None
            # A list that only the student has keeps its own numbers; the strict copy of weights refuses it later.
            known = indices is not None and int(part) < len(indices)
            parts.append(str(indices[int(part)]) if known else part)
        return ".".join(parts) + colon + stream

    def interval(self, name: str) -> list[str]:
        """The teacher's `name`, of a kept layer, and its namesakes in the layers dropped between it and the next."""
        path, choices = [], []
        for part in name.split("."):
            kept = self.kept.get(".".join(path)) if part.isdigit() else None
            later = [index for index in kept or () if index > int(part)]
            end = later[0] if later else self.lengths.get(".".join(path), 0)
            choices.append([part] if kept is None else [str(index) for index in range(int(part), max(end, int(part) + 1))])
            path.append(part)
        return [".".join(parts) for parts in itertools.product(*choices)]

    def to_student(self, name: str) -> str | None:
        """The student's name of the teacher's module or tensor `name`; None if the student dropped it."""
        parts, renamed = [], []
        for part in name.split("."):
            indices = self.kept.get(".".join(parts)) if part.isdigit() else None
            if indices is not None and int(part) not in indices:
                return None
            parts.append(part)
            renamed.append(part if indices is None else str(indices.index(int(part))))
        return ".".join(renamed)


def resolve_keep(lengths: Mapping[str, int], keep: Mapping[str, Sequence[int] | None]) -> LayerMap:
    """Apply keep patterns to the ModuleLists of a denoiser (`lengths`: path -> length).

    Where two patterns match a list, the one that matches fewer lists wins; the order of entries means nothing. A value of
    None drops the entry. Raises InputError for a pattern that matches nothing, an index that does not exist, or a tie that
    disagrees.
    """
    matches = {}
    for pattern, indices in keep.items():
        if indices is None:
            continue
        if not isinstance(indices, (list, tuple)):
            raise InputError(
                f"student.keep[{pattern!r}] = {indices!r} is no list of layer numbers"
                " (a pattern has dots, so it cannot be written in --cfg-options: write a config of your own)"
            )
        matches[pattern] = [path for path in lengths if path_matches(pattern, path)]
        if not matches[pattern]:
            near = get_close_matches(pattern, lengths, n=3, cutoff=0.0)
            raise InputError(
                f"student.keep[{pattern!r}] matches no list of layers of the teacher; lists are e.g. {', '.join(near)}"
            )
        for path in matches[pattern]:
            if not set(indices) <= set(range(lengths[path])) or sorted(set(indices)) != list(indices):
                raise InputError(
                    f"student.keep[{pattern!r}] = {list(indices)}: {path} has layers 0 to {lengths[path] - 1};"
                    " give existing indices in rising order"
                )

    kept = {path: list(range(length)) for path, length in lengths.items()}
    for path in lengths:
        rivals = sorted((len(found), pattern) for pattern, found in matches.items() if path in found)
        winners = [pattern for count, pattern in rivals if count == rivals[0][0]]
        if len({tuple(keep[pattern]) for pattern in winners}) > 1:
            raise InputError(
                f"student.keep: {' and '.join(map(repr, winners))} disagree about {path}; give it an entry of its own"
            )
        if winners:
            kept[path] = list(keep[winners[0]])
    return LayerMap(kept, lengths)


def build(denoiser_class: type, config: Mapping) -> nn.Module:
    """Construct from the keys that the class knows, as a saved EMA adds some of its own to its model's config.

    Not by `from_config`, which ignores overrides of keys listed in `_use_default_values`.
    """
    return denoiser_class(**known_keys(denoiser_class, config))


def known_keys(denoiser_class: type, config: Mapping) -> dict:
    """Those entries of `config` that the constructor of `denoiser_class` takes."""
    known = inspect.signature(denoiser_class).parameters
    return {key: value for key, value in config.items() if key in known}


def build_on_meta(denoiser_class: type, config: Mapping) -> nn.Module:
    """The denoiser without its weights. Equal configs share one, so it is only to be read."""
    return _build_on_meta(denoiser_class, config_key(denoiser_class, config))


def config_key(denoiser_class: type, config: Mapping) -> str:
    """The same text for configs that build the same denoiser."""
    return json.dumps(known_keys(denoiser_class, config), sort_keys=True)


@functools.lru_cache(maxsize=4)  # a plan looks at the same two denoisers several times; each is 30,000 objects
def _build_on_meta(denoiser_class: type, config_json: str) -> nn.Module:
    with torch.device("meta"):  # buffers that come from NumPy are not made there
        return build(denoiser_class, json.loads(config_json)).to("meta")


def state_on_meta(denoiser_class: type, config: Mapping) -> dict[str, Tensor]:
    """The denoiser's state dict without its values. Equal configs share one, so it is only to be read."""
    return _state_on_meta(denoiser_class, config_key(denoiser_class, config))


@functools.lru_cache(maxsize=16)
def _state_on_meta(denoiser_class: type, config_json: str) -> dict[str, Tensor]:
    return _build_on_meta(denoiser_class, config_json).state_dict()


def plan_student(denoiser_class: type, config: Mapping, keep: Mapping) -> tuple[dict, LayerMap]:
    """The student's diffusers config and layer map, without allocating a weight.

    Raises InputError naming the list to blame if no diffusers config can describe a student that keeps these layers.
    """
    rules = rules_of(denoiser_class)
    teacher = build_on_meta(denoiser_class, config)
    # The config of the built teacher, as the one on disk may leave out what has a default.
    config = {key: value for key, value in teacher.config.items() if not key.startswith("_")}
    layers = resolve_keep(module_lists(teacher), keep)
    if not any(indices is not None for indices in keep.values()):
        return config, layers
    student_config = rules.thin(config, layers.kept)
    built = module_lists(build_on_meta(denoiser_class, student_config))
    for path, indices in layers.kept.items():
        name = layers.to_student(path)
        # The outermost up and innermost down stage have no sampler of their own: the config decides, not the keep list.
        if name is None or path.endswith("samplers"):
            continue
        if built.get(name, 0) != len(indices):
            raise InputError(
                f"student.keep: no {denoiser_class.__name__} config describes a student that keeps {indices} of {path}"
                f" (the nearest has {built.get(name, 0)} layers there); {rules.hint}"
            )
    return student_config, layers


def first_difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The first tensor, by name, in which two state dicts differ in name or shape, in words; "" where they do not."""
    for name in sorted(found.keys() | expected.keys()):
        here, there = (tuple(weights[name].shape) if name in weights else "nothing" for weights in (found, expected))
        if here != there:
            return f"{name} is {here} and should be {there}"
    return ""
