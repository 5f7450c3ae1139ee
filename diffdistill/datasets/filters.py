"""Conditions that a row must meet to be trained on, written as text: "aesthetic > 7.5"."""

import json
import operator
import re
from collections.abc import Mapping, Sequence

import datasets
import numpy as np
import pyarrow.compute as pc

from diffdistill.errors import InputError

SIGNS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt}
IN_ARROW = {">=": "greater_equal", "<=": "less_equal", "==": "equal", "!=": "not_equal", ">": "greater", "<": "less"}
FORM = re.compile(r"\s*(.+?)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*")
EXAMPLE = "write e.g. 'aesthetic > 7.5', or 'license == \"cc0\"'"


class Filter:
    """One condition: a column, one of > >= < <= == !=, and a number or a text in double quotes. Nothing of it is run.

    A row whose value is missing, or is no number where one is asked for, does not meet it. Raises InputError for other text.
    """

    def __init__(self, text: str):
        parts = FORM.fullmatch(text) if isinstance(text, str) else None
        try:
            self.column, self.sign, value = parts.groups()
            self.value = json.loads(value)
        except (AttributeError, ValueError):
            raise InputError(f"filters: {text!r} is no condition; {EXAMPLE}") from None
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | str):
            raise InputError(f"filters: {text!r} compares with neither a number nor a text; {EXAMPLE}")
        self.text = text

    @property
    def kind(self) -> type | tuple[type, ...]:
        """What values of the column are that can be compared."""
        return str if isinstance(self.value, str) else (int, float)

    def keeps(self, row: Mapping) -> bool:
        """Whether a row meets the condition."""
        value = row.get(self.column)
        return isinstance(value, self.kind) and bool(SIGNS[self.sign](value, self.value))

    def kept(self, rows: datasets.Dataset, source: str) -> np.ndarray:
        """The numbers of the rows of a table that meet the condition. Raises InputError for a column of another kind."""
        column = rows.with_format("arrow")[self.column][:]
        try:
            met = getattr(pc, IN_ARROW[self.sign])(column, self.value)
        except Exception as error:  # pyarrow has several
            kind = getattr(rows.features[self.column], "dtype", rows.features[self.column])
            raise InputError(f"{source}: filters: {self.text!r}: column {self.column!r} holds {kind}") from error
        return np.flatnonzero(pc.fill_null(met, False).to_numpy(zero_copy_only=False))


def parse_filters(texts: Sequence[str], source: str, columns: Sequence[str]) -> list[Filter]:
    """The conditions written as `texts`. Raises InputError for one that is none, or of a column that is not there."""
    if isinstance(texts, str):
        raise InputError(f"filters={texts!r} must be a list of conditions; {EXAMPLE}, each in a list")
    found = [Filter(text) for text in texts]
    for each in found:
        if each.column not in columns:
            raise InputError(
                f"{source}: filters: {each.text!r}: there is no column {each.column!r}; the columns are {', '.join(columns)}"
            )
    return found


def check_count(name: str, value) -> None:
    """Raise InputError unless `value`, of the key `name`, is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name}={value!r} must be a whole number, at least 1")


class Narrowing:
    """A table that becomes smaller: its `rows`, their `numbers` in what it was, and in `log` a line for each step."""

    def __init__(self, rows: datasets.Dataset, source: str):
        self.rows, self.source, self.log = rows, source, []
        self.numbers = np.arange(len(rows))

    def keep(self, places: Sequence[int], why: str = "") -> None:
        """Keep the rows at these places alone, and say so where there is a reason.

        Raises InputError where there are none.
        """
        before = len(self.rows)
        if not len(places):
            raise InputError(f"{self.source}: {why} leaves none of {before:,} rows; loosen it")
        if len(places) < before:
            self.rows, self.numbers = self.rows.select(places), self.numbers[places]
        if why:
            self.log.append(f"{self.source}: {why} leaves {len(places):,} of {before:,} rows")
