"""The metrics of a card: one table for each protocol, and the same figures in the form of the hub's model index."""

from collections.abc import Mapping, Sequence

from huggingface_hub import EvalResult

from diffdistill.export.card.names import markdown_table, value_text
from diffdistill.export.card.source import Source
from diffdistill.metrics.protocol import describe_sampling, protocol_of, split
from diffdistill.metrics.record import Role, role_of, warning_of
from diffdistill.report.numbers import SPACE, metric_names, title_of, unit_of


def groups(records: Sequence[Mapping]) -> list[tuple[dict, dict[str, dict[str, float]]]]:
    """(protocol, metric -> role -> value), of every protocol by which the exported weights were measured."""
    found: list[tuple[dict, dict]] = []
    pairs = [(name, record) for record in records for name in metric_names([dict(record)]) if name in record]
    for protocol, members in split(pairs, lambda pair: protocol_of(pair[1], pair[0])):
        table: dict[str, dict[str, float]] = {}
        for name, record in members:
            table.setdefault(name, {})[role_of(record)] = record[name]
        table = {name: values for name, values in table.items() if Role.TRAINED in values}
        if table:
            found.append((protocol, table))
    return found


def metric_tables(records: Sequence[Mapping], before: str) -> list[dict[str, str]]:
    """`protocol` and `table` of each protocol; `before` is what the model was before its training."""
    tables = []
    for protocol, values in groups(records):
        titles = {Role.TEACHER: "teacher", Role.UNTRAINED: before, Role.TRAINED: "this model"}
        titles = {role: title for role, title in titles.items() if any(role in row for row in values.values())}
        rows = [[title_of(name), *(value(row.get(role), unit_of(name)) for role in titles)] for name, row in values.items()]
        warnings = [warning_of(name, row[Role.TRAINED], row.get(Role.TEACHER)) for name, row in values.items()]
        below = [describe(protocol), *(f"**Warning**: {warning}." for warning in warnings if warning)]
        tables.append(dict(protocol="\n\n".join(below), table=markdown_table(["", *titles.values()], rows)))
    return tables


def value(figure: float | None, unit: str) -> str:
    """A figure with four significant digits and its unit; a dash for None."""
    return "–" if figure is None else f"{figure:.4g}{SPACE}{unit}".strip()


def describe(protocol: Mapping) -> str:
    """The protocol in words, with the sampler of the student where that is another."""
    if not protocol:
        return "Protocol unknown."
    shared = {key: setting for key, setting in protocol.items() if key not in ("student_sampling", "scheduler_options")}
    text = f"{protocol['metric']}: {describe_sampling(shared)}"
    if options := protocol.get("scheduler_options"):
        text += f"; scheduler with {', '.join(f'{key}={value_text(each)}' for key, each in options.items())}"
    if own := protocol.get("student_sampling"):
        text += f". This model by the sampler that it was trained for: {', '.join(sampler_words(own))}"
    return f"{text}."


def sampler_words(sampling: Mapping) -> list[str]:
    """Scheduler, steps and guidance scale of `sampling` in words, as far as it says them."""
    scheduler = sampling.get("scheduler")
    words = [scheduler["type"] if isinstance(scheduler, Mapping) else scheduler] if scheduler else []
    if "num_inference_steps" in sampling:
        words.append(f"{sampling['num_inference_steps']} steps")
    if "guidance_scale" in sampling:
        words.append(f"guidance scale {sampling['guidance_scale']:g}")
    return words


def eval_results(records: Sequence[Mapping]) -> list[EvalResult]:
    """The figures of the exported weights, exact; a protocol is one "dataset" of the hub's model index."""
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_type="captions",
            dataset_name=str(protocol.get("captions", "captions")),
            dataset_config=describe(protocol),
            metric_type=name,
            metric_value=values[Role.TRAINED],
            metric_name=title_of(name),
        )
        for protocol, table in groups(records)
        if protocol  # the hub has no place for a figure of which nobody knows how it was found
        for name, values in table.items()
    ]


def metrics_note(source: Source) -> str | None:
    """Says why the card has no figures: just these weights were not measured. None where it has some."""
    if source.records:
        return None
    if not source.results:
        return "No `results.json` of a run stood beside the checkpoint, so nothing is known of its quality."
    if source.compressed:
        return f"The run measured its weights before they were compressed; those in {source.compressed} were not measured."
    if not source.measured:
        if source.quantize != source.trained_quantize:
            return "The run measured its full weights; these, which were quantised after it, were not measured."
        return "The run measured the average of its weights; these raw weights were not measured."
    return f"These weights, from after {source.step:,} steps, were not measured."
