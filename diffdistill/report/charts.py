"""Which charts a page shows."""

from collections.abc import Callable, Sequence

from diffdistill.metrics.record import Role, role_of
from diffdistill.report.curves import Chart, Line
from diffdistill.report.data import Run
from diffdistill.report.headline import noun, scores
from diffdistill.report.history import Curve, smooth
from diffdistill.report.numbers import better_of, metric_names, title_of, unit_of

WINDOWS = 12  # a smoothed curve averages over about this part of its points
SMALLEST_WINDOW = 5


def window_of(curve: Curve) -> int:
    """The number of points that the running average of `curve` covers: a twelfth of them, but at least 5."""
    return max(SMALLEST_WINDOW, len(curve[0]) // WINDOWS)


def spans_decades(curve: Curve) -> bool:
    """Whether all values of `curve` are positive and the largest is over ten times the smallest, so a log axis suits it."""
    finite = [value for value in curve[1] if value is not None]
    return bool(finite) and min(finite) > 0 and max(finite) > 10 * min(finite)


def loss_names(run: Run) -> list[str]:
    """The terms of the loss, then their total where there are several."""
    terms = [name for name in run.curves if name.startswith("loss_")]
    return terms if len(terms) == 1 else [*terms, *(name for name in run.curves if name == "loss")]


def loss_title(name: str) -> str:
    """The title of a loss's chart: "output kd loss" for "loss_output_kd"."""
    return "total loss" if name == "loss" else f"{name.removeprefix('loss_').replace('_', ' ')} loss"


def smoothed_chart(run: Run, curve: Curve, title: str, unit: str = "", log: bool = False) -> Chart:
    """A chart of the raw values, pale, and over them their running average."""
    steps, values = curve
    window = window_of(curve)
    each = max(1, round((steps[-1] - steps[0]) / max(1, len(steps) - 1)))
    note = f"mean of {window * each:,} steps" + (", log scale" if log else "")
    lines = [Line("", steps, values), last_value("", steps, smooth(values, window))]
    return Chart(title, lines, unit, note, boundaries=run.boundaries, log=log, zero=not log)


def last_value(name: str, steps: Sequence[int], values: Sequence[float | None], style: str = "student") -> Line:
    """A line whose label is its name, if it has one, and its last value."""
    known = [value for value in values if value is not None]
    return Line(f"{name} {known[-1]:.3g}".strip() if known else name, steps, values, style)


def loss_charts(run: Run) -> list[Chart]:
    """A chart for every name of `loss_names`, with a log axis where the values span decades."""
    found = ((name, run.curves[name]) for name in loss_names(run))
    return [smoothed_chart(run, curve, loss_title(name), log=spans_decades(curve)) for name, curve in found]


def process_charts(run: Run) -> list[Chart]:
    """Learning rate, gradient norm, throughput and memory, as far as they were logged."""
    charts, batch = [], run.record.get("batch_size") or run.results.get("batch_size")
    if "lr" in run.curves:
        charts.append(Chart("learning rate", [last_value("", *run.curves["lr"])], boundaries=run.boundaries, zero=True))
    if "grad_norm" in run.curves:
        curve = run.curves["grad_norm"]
        charts.append(smoothed_chart(run, curve, "gradient norm, before clipping", log=spans_decades(curve)))
    if "time" in run.curves and batch:
        curve = converted(run.curves["time"], lambda value: batch / value)
        charts.append(smoothed_chart(run, curve, "throughput", "pictures a second"))
    if "memory" in run.curves:
        curve = converted(run.curves["memory"], lambda value: value / 1024)
        lines = [last_value("", *curve)]
        charts.append(Chart("memory, peak so far", lines, "GiB", boundaries=run.boundaries, zero=True))
    return charts


def converted(curve: Curve, function: Callable[[float], float]) -> Curve:
    """`curve` with `function` applied to its values; None and 0 become None."""
    return [curve[0], [function(value) if value else None for value in curve[1]]]


def validation_charts(run: Run) -> list[Chart]:
    """A chart a metric, the main one first, with the teacher and the untrained student as levels."""
    charts = []
    for metric in metric_names(run.validation):
        score = scores(run, metric)
        points = [(record["step"], record[metric]) for record in run.validation if is_students(record, metric)]
        lines = [last_value(noun(run), [step for step, _ in points], [value for _, value in points])]
        known = {role: score[role] for role in ("teacher", "untrained") if score[role] is not None}
        levels = [(f"{role} {value:.3g}", value, role) for role, value in known.items()]
        unit, options = unit_of(metric), dict(levels=levels, boundaries=run.boundaries)
        zero = unit in ("%", "bits")
        charts.append(Chart(title_of(metric), lines, unit, better_of(metric), zero=zero, **options))
    return charts


def is_students(record: dict, metric: str) -> bool:
    """Whether `record` is not the teacher's and has `metric`."""
    return role_of(record) is not Role.TEACHER and record.get(metric) is not None


def overlaid_metrics(runs: list[Run], letters: str) -> list[Chart]:
    """A chart a metric with a line a run, called by its letter."""
    charts = []
    for metric in dict.fromkeys(metric for run in runs for metric in metric_names(run.validation)):
        lines = []
        for number, run in enumerate(runs):
            points = [(record["step"], record[metric]) for record in run.validation if is_students(record, metric)]
            if points:
                steps, values = zip(*points, strict=True)
                lines.append(last_value(letters[number], steps, values, style_of(number)))
        teachers = {score for run in runs if (score := scores(run, metric)["teacher"]) is not None}
        levels = [(f"teacher {score:.3g}", score, "teacher") for score in teachers] if len(teachers) == 1 else []
        zero = unit_of(metric) in ("%", "bits")
        charts.append(Chart(title_of(metric), lines, unit_of(metric), better_of(metric), levels=levels, zero=zero))
    return charts


def overlaid_losses(runs: list[Run], letters: str) -> list[Chart]:
    """A chart a loss with the running mean of every run that has it."""
    charts = []
    for loss in dict.fromkeys(name for run in runs for name in loss_names(run)):
        curves = {number: run.curves[loss] for number, run in enumerate(runs) if loss in run.curves}
        means = {number: smooth(values, window_of([steps, values])) for number, (steps, values) in curves.items()}
        lines = [last_value(letters[n], curves[n][0], values, style_of(n)) for n, values in means.items()]
        log = all(spans_decades(curve) for curve in curves.values())
        note = "running mean" + (", log scale" if log else "")
        charts.append(Chart(loss_title(loss), lines, note=note, log=log, zero=not log))
    return charts


def style_of(number: int) -> str:
    """The style class of run number `number` of a comparison; there are six, used in turn."""
    return f"run{number % 6}"
