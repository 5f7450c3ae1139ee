"""Records of figures: what a validation or a test has found of one model.

A record is a dict, as JSON holds it: `model` (what it is called: "teacher", "student", "fine-tuned", or the label of a
checkpoint), `step` (of a training; a test has none), `checkpoint` and `quantize` (of a test: how its weights were quantised,
where they were), `protocol`, and figures under their names.
"""

from collections.abc import Mapping
from enum import Enum

LABELS = ("model", "step", "checkpoint", "quantize", "protocol")  # what a record holds beside figures
COLLAPSED = {"position_entropy": 0.25, "seed_spread": 1e-3, "seed_spread_kept": 10.0}  # below it the seed hardly matters
TEACHER, STUDENT, FINE_TUNED = "teacher", "student", "fine-tuned"  # what models are called


class Role(str, Enum):
    """Whose figures a record holds."""

    TEACHER = TEACHER
    UNTRAINED = "untrained"  # the student, or the base of a fine-tuning, before the first step
    TRAINED = STUDENT


def role_of(record: Mapping) -> Role:
    """Whose figures `record` holds. A record without a step is of a test, so of a finished model."""
    if record["model"] == TEACHER:
        return Role.TEACHER
    return Role.UNTRAINED if record.get("step") == 0 else Role.TRAINED


def figures_of(record: Mapping) -> dict[str, float]:
    """The figures of a record, by name."""
    return {name: value for name, value in record.items() if name not in LABELS}


def warnings_of(record: Mapping) -> list[str]:
    """A line for every figure of a record that warns; see `warning_of`."""
    return [warning for name, value in figures_of(record).items() if (warning := warning_of(name, value))]


def warning_of(name: str, value: float) -> str | None:
    """What a figure warns of: a model that draws hardly more than one picture of a caption. None where it does not."""
    figure = name.rsplit("/", 1)[-1]
    if value >= COLLAPSED.get(figure, value):
        return None
    return f"{name} {value:.3g}: the model draws (almost) the same picture from every seed of a caption"
