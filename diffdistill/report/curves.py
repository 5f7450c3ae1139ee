"""Line charts as SVG that takes its colours from the page; `page.js` adds a read-out under the pointer.

matplotlib's SVG would have colours of its own, in light and dark mode the same, and reads a title with two `$` as a formula.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from diffdistill.report.numbers import tick

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 460, 240, 50, 26, 40
LETTER, LINE = 8.2, 15  # width of a letter and height of a line of a label, in pixels
LABEL = 24  # longest label at the end of a line, in letters


@dataclass
class Line:
    """A curve of a chart. `style` is a class of the style sheet; one without a `name` is drawn behind, without a label."""

    name: str
    steps: Sequence[float]
    values: Sequence[float | None]
    style: str = "student"

    @property
    def points(self) -> list[tuple[float, float]]:
        """(step, value) of every step that has a value."""
        return [(s, v) for s, v in zip(self.steps, self.values, strict=True) if v is not None]


@dataclass
class Chart:
    """A chart over training steps.

    Args:
        unit: of the values, written at their axis.
        levels: horizontal lines (name, value, style) for comparison.
        boundaries: vertical lines (step, title), where stages begin.
        log: a logarithmic axis of values, for positive ones.
        zero: whether the axis of values begins at zero, where all values are positive.
        axis: what the horizontal axis counts.
    """

    title: str
    lines: list[Line]
    unit: str = ""
    note: str = ""
    levels: list[tuple[str, float, str]] = field(default_factory=list)
    boundaries: list[tuple[int, str]] = field(default_factory=list)
    log: bool = False
    zero: bool = False
    axis: str = "training step"

    def svg(self) -> Markup:
        """The chart as SVG, to stand inside the page."""
        return draw(self)


def ticks(low: float, high: float, number: int = 5) -> list[float]:
    """About `number` round values between `low` and `high`."""
    raw = (high - low) / number
    power = 10 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(step - raw))
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between `low` and `high`; where they are fewer than three, 2 and 5 times powers of ten, too."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = [10.0**power for power in powers]
    fine = [factor * decade for decade in decades for factor in (1, 2, 5)]
    within = [value for value in decades if low <= value <= high]
    return within if len(within) >= 3 else [value for value in fine if low * 0.999 <= value <= high * 1.001]


def value_range(chart: Chart, values: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest value on the axis: those of `values` with a margin, or from zero where `chart.zero` says so."""
    low, high = min(values), max(values)
    if chart.log:
        return low / 1.1, high * 1.1
    if chart.zero and low >= 0:
        low = 0.0
    margin = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
    return (low if low == 0 and chart.zero else low - margin), high + margin


def spread(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Places as near as possible to the wanted ones, a line apart, in the order of the wanted ones."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places, last = [0.0] * len(wanted), low - LINE
    for i in order:
        places[i] = last = max(wanted[i], last + LINE)
    excess = high
    for i in reversed(order):
        places[i] = min(places[i], excess)
        excess = places[i] - LINE
    return places


def draw(chart: Chart) -> Markup:
    """SVG of `chart`, with the data of the read-out in `data-chart`; a line of text where it has no value yet."""
    values = [value for line in chart.lines for _, value in line.points] + [value for _, value, _ in chart.levels]
    steps = [step for line in chart.lines for step, _ in line.points]
    if not steps:
        return Markup('<p class="quiet">no value yet</p>')
    low, high = value_range(chart, values)
    first, last = min(0, *steps), max(*steps, 1)
    labelled = [(line.name[:LABEL], line.points[-1][1], line.style) for line in chart.lines if line.name and line.points]
    labels = labelled + [(name[:LABEL], value, style) for name, value, style in chart.levels]
    right = WIDTH - 12 - max([LETTER * len(name) for name, _, _ in labels], default=0)
    bottom = HEIGHT - BOTTOM

    def x(step: float) -> float:
        return LEFT + (right - LEFT) * (step - first) / (last - first)

    def y(value: float) -> float:
        part = math.log(value / low) / math.log(high / low) if chart.log else (value - low) / (high - low)
        return bottom - (bottom - TOP) * part

    parts = []
    for value in log_ticks(low, high) if chart.log else ticks(low, high):
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{right:.1f}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" class="end">{tick(value)}</text>')
    marked = ticks(first, last, 5 if right > 380 else 4)
    parts += [f'<text x="{x(step):.1f}" y="{bottom + 16}" class="middle">{tick(step)}</text>' for step in marked]
    parts.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{bottom + 34}" class="middle axis">{escape(chart.axis)}</text>')
    parts.append(f'<text x="{LEFT - 44}" y="13" class="axis">{escape(chart.unit)}</text>')
    ends = [*(step for step, _ in chart.boundaries[1:]), last]
    for (step, title), end in zip(chart.boundaries, ends, strict=False):  # no end without a boundary
        fits = int((x(end) - x(step) - 4) / LETTER)  # letters
        shown = title if len(title) <= fits else f"{title[: fits - 1]}…" if fits > 3 else ""
        parts.append(f'<line class="boundary" x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="axis" x="{x(step) + 3:.1f}" y="{TOP - 2}">{escape(shown)}</text>')
    for _, value, style in chart.levels:
        parts.append(f'<line class="level {style}" x1="{LEFT}" x2="{right:.1f}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
    for line in chart.lines:
        parts.append(f'<path class="{line.style}{"" if line.name else " raw"}" d="{path(line, x, y)}"/>')
        scattered = 2 * len(line.points) <= len(line.values)  # with nothing between two of them
        if line.name and (scattered or len(line.points) <= 40):
            parts += [f'<circle class="{line.style}" cx="{x(s):.1f}" cy="{y(v):.1f}" r="2.5"/>' for s, v in line.points]
    places = spread([y(value) for _, value, _ in labels], TOP, bottom - 4)
    for (name, _, style), place in zip(labels, places, strict=True):
        parts.append(f'<text class="label {style}" x="{right + 7:.1f}" y="{place + 4:.1f}">{escape(name)}</text>')
    parts.append(f'<line class="cursor" x1="0" x2="0" y1="{TOP}" y2="{bottom}" visibility="hidden"/>')
    read_out = dict(
        left=LEFT, right=round(right, 1), first=first, last=last, unit=chart.unit,
        lines=[dict(name=line.name, steps=[s for s, _ in line.points], values=[float(f"{v:.5g}") for _, v in line.points])
               for line in chart.lines if line.name],
    )  # fmt: skip
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}"'
        f' data-chart="{escape(json.dumps(read_out))}">{"".join(parts)}</svg>'
    )


def path(line: Line, x, y) -> str:
    """The path of a line, in SVG's commands; it breaks where a value is not finite."""
    commands, pen = [], "M"
    for step, value in zip(line.steps, line.values, strict=True):
        if value is None:
            pen = "M"
            continue
        commands.append(f"{pen}{x(step):.1f},{y(value):.1f}")
        pen = "L"
    return "".join(commands)
