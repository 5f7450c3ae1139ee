"""Records of an evaluation as they look in a terminal: figures of one protocol in one table, the protocol above it."""

from collections.abc import Iterator, Mapping, Sequence

from rich import box
from rich.table import Table

from diffdistill.metrics.protocol import check_same, describe_sampling, describe_settings
from diffdistill.metrics.record import figures_of, teacher_among, warning_of, warnings_of
from diffdistill.report.numbers import unit_of


def evaluation_table(records: Sequence[Mapping]) -> Table:
    """One column a model, one row a figure; "!" marks one that warns. Raises InputError for different protocols."""
    names = list(dict.fromkeys(name for record in records for name in figures_of(record)))
    for name in names:
        check_same([record for record in records if name in record], name)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for record in records:
        table.add_column(record["model"], justify="right")
    for name in names:
        unit = f", {unit_of(name)}" if unit_of(name) not in ("", "%") else ""
        theirs = teacher_among(records).get(name)
        table.add_row(name + unit, *(cell(name, record.get(name), theirs) for record in records))
    return table


def cell(name: str, value: float | None, teacher: float | None) -> str:
    """A figure as text, with "!" where it warns beside that of the teacher; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.5g}" + (" !" if warning_of(name, value, teacher) else "")


def warning_lines(records: Sequence[Mapping]) -> Iterator[str]:
    """What the figures that are marked warn of, a line each."""
    for record in records:
        yield from (f"! {record['model']}: {warning}" for warning in warnings_of(record, teacher_among(records)))


def protocol_lines(protocol: Mapping | None) -> Iterator[str]:
    """What all figures share, then a line for each metric with settings of its own."""
    protocol = protocol or {}
    if "losses" in protocol:
        yield "; ".join([protocol["losses"], *describe_settings({k: v for k, v in protocol.items() if k != "losses"})])
        return
    yield describe_sampling(protocol)
    for name, settings in protocol.get("metrics", {}).items():
        if own := describe_settings(settings):
            yield f"{name}: {', '.join(own)}"
