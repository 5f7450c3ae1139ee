"""The config of the student that was found: a few lines that inherit the user's config."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffdistill.config.read import config_root, read_config
from diffdistill.errors import InputError
from diffdistill.search.space import Cut, Space
from diffdistill.students.cut import path_matches, resolve_keep

WIDTH = 120  # of a line


def shortened_keep(space: Space, keep: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """The same keep list with as few patterns: numbers of blocks and attentions become `*` where all of them agree."""
    wanted = resolve_keep(space.lengths, keep).kept
    alive = {path for path in space.lengths if resolve_keep(space.lengths, keep).to_student(path) is not None}
    left, found = dict(keep), {}
    for path in sorted(keep, key=lambda path: (path.count("."), path)):
        if path not in left:
            continue
        indices = list(left[path])
        for pattern in generalized(path):
            same = [other for other in space.lengths if path_matches(pattern, other)]
            if all(list(wanted[other]) == indices for other in same if other in alive) and all(
                (indices and indices[-1] < space.lengths[other]) or not indices for other in same
            ):
                found[pattern] = indices
                left = {other: kept for other, kept in left.items() if not path_matches(pattern, other)}
                break
    try:
        back = resolve_keep(space.lengths, found).kept
    except InputError:  # patterns that disagree about a list that is gone
        back = {}
    return found if all(back.get(path) == wanted[path] for path in alive) else dict(keep)


def generalized(path: str) -> list[str]:
    """Patterns of a path, the widest first, and itself last: numbers, and "down" or "up", replaced by `*`."""
    parts = path.split(".")
    digits = ".".join("*" if part.isdigit() else part for part in parts)
    inner = ".".join("*" if part.isdigit() and number > 1 else part for number, part in enumerate(parts))
    return list(dict.fromkeys([digits.replace("down_", "*_").replace("up_", "*_"), digits, inner, path]))


def packed(entries: Sequence[str], indent: str) -> list[str]:
    """Entries in as few lines as hold them."""
    lines = [indent]
    for entry in entries:
        piece = f"{entry}, "
        if len(lines[-1]) + len(piece) > WIDTH and lines[-1].strip():
            lines.append(indent)
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def config_text(space: Space, cut: Cut, config_file: Path, where: Path, summary: Sequence[str]) -> str:
    """The config: `summary` in its docstring, what it inherits, and the keep list."""
    inherited = (read_config(config_file).model.get("student") or {}).get("keep")
    entries = ['"_delete_": True'] if inherited else []
    entries += [f'"{pattern}": {list(kept)}' for pattern, kept in shortened_keep(space, cut.keep).items()]
    lines = [f'"""{summary[0]}', "", *summary[1:], '"""', f'_base_ = ["{base_of(config_file, where)}"]']
    lines += ["model = dict(student=dict(keep={", *packed(entries, "    ")]
    if cut.fresh:
        lines += ["}, fresh=[", *packed([f'"{pattern}"' for pattern in fresh_patterns(cut.fresh)], "    ")]
    end = "]" if cut.fresh else "}"
    if cut.unpaired:
        pairs = ", ".join(f'"{layer}": None' for layer in cut.unpaired)
        lines.append(f"{end}), feature_pairs=dict(pairs={{{pairs}}}))")
    else:
        lines.append(f"{end}))")
    return "\n".join(lines) + "\n"


def fresh_patterns(names: Sequence[str]) -> list[str]:
    """The tensors, weight and bias of one module together where both start anew."""
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    return [each for module, found in modules.items() for each in ([f"{module}.*"] if len(found) == 2 else found)]


def base_of(config_file: Path, where: Path) -> str:
    """How a config in the folder `where` names the config that it inherits."""
    root = config_root()
    if config_file.resolve().is_relative_to(root.resolve()):
        return f"diffdistill::{config_file.resolve().relative_to(root.resolve()).as_posix()}"
    return Path(os.path.relpath(config_file.resolve(), where.resolve())).as_posix()
