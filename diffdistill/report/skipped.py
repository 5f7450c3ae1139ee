"""`skipped.jsonl`: the samples that a run has left out."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FILE = "skipped.jsonl"


def read_skipped(run: Path) -> list[dict]:
    """The samples that the run in the folder `run` has left out, each once: `source`, `row`, `file`, `reason`, `step`.

    `step` is the number of the step, from 1, that would have trained on it; 0 for what was left out at the start. A line
    that is damaged is no sample.
    """
    try:
        lines = (run / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return list(by_row(lines).values())


def by_row(lines: list[str]) -> dict[tuple, dict]:
    """The samples of JSON lines by their `key_of`; of several lines of one row, the first."""
    found: dict[tuple, dict] = {}
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):
            sample = json.loads(line)
            found.setdefault(key_of(sample), sample)
    return found


def key_of(sample: Mapping) -> tuple:
    """What tells a sample from others: its source and row."""
    return sample["source"], sample["row"]
