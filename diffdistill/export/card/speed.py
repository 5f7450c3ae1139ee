"""The speed tables of a card, from what `tools/benchmark.py inference --json FILE` has written."""

import json
from collections.abc import Mapping
from pathlib import Path

from diffdistill.benchmarks.machine import described
from diffdistill.benchmarks.tables import NARROW, inference_tables
from diffdistill.errors import InputError
from diffdistill.export.card.names import markdown_table


def read_speed(file: str) -> dict:
    """The figures in `file`. Raises InputError for any other file."""
    try:
        figures = json.loads(Path(file).read_text(encoding="utf-8"))
        figures["protocol"]["rounds"], figures["machine"]["device"], figures["rows"][0]["parameters"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise InputError(
            f"--speed={file}: not what `benchmark inference ... --json {file}` writes; give such a file"
        ) from None
    return figures


def check_measured(figures: Mapping, parameters: int) -> None:
    """Raise InputError unless a denoiser of that many parameters was measured: another model's speed is not this one's."""
    found = [row["parameters"] for row in figures["rows"]]
    if parameters not in found:
        raise InputError(
            f"--speed: no row is of this model, whose denoiser has {parameters:,} parameters;"
            f" they have {', '.join(f'{each:,}' for each in dict.fromkeys(found))}"
        )


def speed_tables(figures: Mapping) -> list[dict[str, str]]:
    """A dict of `title` and `table`, in Markdown, for every table that the benchmark prints."""
    tables = []
    for drawn in inference_tables(figures, NARROW):
        columns = [[str(cell).replace("|", "\\|") for cell in column.cells] for column in drawn.columns]
        rows = [list(row) for row in zip(*columns, strict=True)]
        tables.append(dict(title=drawn.title, table=markdown_table([str(each.header) for each in drawn.columns], rows)))
    return tables


def speed_protocol(figures: Mapping) -> str:
    """How the figures were measured, in words: rounds, machine, and whether the weights were random."""
    protocol = figures["protocol"]
    random = " Weights were random, which does not change the speed." if any(
        row.get("weights") == "random" for row in figures["rows"]
    ) else ""  # fmt: skip
    return (
        f"Medians of {protocol['rounds']} interleaved rounds after {protocol['warmup']} for warm-up, speed-up over the first"
        f" row; {described(figures['machine'])}.{random}"
    )
