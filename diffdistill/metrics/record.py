"""Records of figures: what a validation or a test has found of one model.

A record is a dict, as JSON holds it: `model` (what it is called: "teacher", "student", "fine-tuned", or the label of a
checkpoint), `step` (of a training; a test has none), `checkpoint` and `quantize` (of a test: how its weights were quantised,
where they were), `protocol`, and figures under their names.
"""

from collections.abc import Iterable, Mapping
from enum import Enum

LABELS = ("model", "step", "checkpoint", "quantize", "protocol")  # what a record holds beside figures
COLLAPSED = {"position_entropy": 0.25, "seed_spread": 1e-3, "seed_spread_kept": 10.0}  # below it the seed hardly matters
# The teacher's figure -> that of half as many pictures: 2^entropy is a number of positions.
HALF = {
    "position_entropy": lambda bits: bits - 1,
    "seed_spread": lambda spread: spread / 2,
    "seed_spread_kept": lambda share: share / 2,
}
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


def teacher_among(records: Iterable[Mapping]) -> Mapping:
    """The first record of a teacher; {} where there is none."""
    return next((record for record in records if role_of(record) is Role.TEACHER), {})


def warnings_of(record: Mapping, teacher: Mapping) -> list[str]:
    """A line for every figure of a record that warns beside that of the teacher's record; see `warning_of`."""
    found = (warning_of(name, value, teacher.get(name)) for name, value in figures_of(record).items())
    return [warning for warning in found if warning]


def warning_of(name: str, value: float, teacher: float | None = None) -> str | None:
    """What a figure warns of, beside the teacher's where that is known; None where it does not.

    A model that draws hardly more than one picture of a caption, or half as many as its teacher.
    """
    figure = name.rsplit("/", 1)[-1]
    if value < COLLAPSED.get(figure, value):
        return f"{name} {value:.3g}: the model draws (almost) the same picture from every seed of a caption"
    if teacher is not None and figure in HALF and value < HALF[figure](teacher):
        return (
            f"{name} {value:.3g}, the teacher's {teacher:.3g}: less than half as many pictures of a caption as the teacher's"
        )
    return None
