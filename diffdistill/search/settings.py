"""How a search is done, and which configs it can be done for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from diffdistill.errors import InputError
from diffdistill.registry import MODELS


@dataclass(frozen=True)
class Settings:
    """How a search is done: see `tools/choose_student.py`."""

    budgets: Mapping[str, float]
    samples: int = 64
    candidates: int = 20
    train: int = 5
    steps: int | None = None
    seed: int | None = None
    repeat: tuple[int, ...] = ()


def check_searchable(config: Config) -> None:
    """Raise InputError for a config without a teacher to cut, or with a student that a cut cannot replace."""
    name = Path(config.filename).name
    if config.get("stages"):
        raise InputError(f"{name} is in stages; give the config of the one that trains the cut")
    if config.get("model") is None or not getattr(MODELS.get(config.model.type), "distills", False):
        raise InputError(f"{name} has no model.teacher to cut a student from; give a config of type Distiller")
    student = config.model.get("student") or {}
    for key in ("checkpoint", "adapter"):
        if student.get(key):
            raise InputError(f"model.student.{key}={student[key]!r}: a search cuts the teacher itself; leave it out")
