"""Architectures of published pipelines that ship with the package: their small config files, under the hub's names.

They let a config whose checkpoint is a hub name be planned (sizes, cuts, feature pairs) without a network. Nothing is ever
trained from them: there the real checkpoint decides.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "assets" / "architectures"
_planning = ContextVar("planning", default=False)


@contextmanager
def planning() -> Iterator[None]:
    """Inside the block, a `Checkpoint` of a known hub name reads the architecture that ships with the package."""
    token = _planning.set(True)
    try:
        yield
    finally:
        _planning.reset(token)


@cache
def load_architecture(name: str) -> dict[str, dict]:
    """Path of a config file -> its content, for the architecture `name` (e.g. "sdxl").

    An architecture that inherits lists only the entries in which its files differ.
    """
    entry = json.loads((FOLDER / f"{name}.json").read_text())
    files = dict(load_architecture(entry["inherit"])) if "inherit" in entry else {}
    for path, content in entry["files"].items():
        files[path] = files.get(path, {}) | content
    return files


@cache
def hub_names() -> dict[str, str]:
    """Hub name in lower case -> architecture."""
    entries = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    return {name.lower(): architecture for architecture, entry in entries.items() for name in entry["names"]}


def known_architecture(name: str) -> dict[str, dict] | None:
    """The files of the checkpoint `name`, if it is the hub name of a known pipeline and we are only planning."""
    architecture = hub_names().get(name.lower()) if _planning.get() else None
    return architecture and load_architecture(architecture)
