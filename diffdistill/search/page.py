"""The page of a search: what layers are worth, candidates against their budget, and how training changed their order."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from diffdistill.errors import InputError
from diffdistill.files import read_json, write_file_whole
from diffdistill.metrics.record import TEACHER
from diffdistill.report.curves import Chart, Line
from diffdistill.report.network import network_picture
from diffdistill.report.numbers import count, operations, percent, title_of, unit_of, with_unit
from diffdistill.report.page import environment
from diffdistill.report.pictures import encode
from diffdistill.sampling.grid import picture_grid
from diffdistill.search.ranking import first_metric, pareto
from diffdistill.search.short import PICTURES
from diffdistill.search.space import Cut, Space

SHOWN = 3  # cuts of which there are pictures
TEN = 10
ROW, WIDE, NAME = 22, 620, 200  # the picture of ranks, in pixels


def write_page(space: Space, figures: dict, ranked: Sequence[Cut], file: Path, config: str, prompts: Sequence[str]) -> None:
    """Write the page of a search, and beside it the grid of pictures."""
    trained = [cut for cut in ranked if cut.trained_error is not None]
    grid = write_grid(file, trained[:SHOWN], prompts)
    text = environment().get_template("choice.html").render(
        title="The student for a budget" if ranked else "What each layer is worth",
        subtitle=subtitle(space, figures),
        best=best_of(space, figures, ranked[0], config) if ranked else None,
        sensitivity=sensitivity(space, figures["scores"]),
        scores=score_rows(figures["scores"]),
        charts=charts(figures, [*ranked, *earlier(figures, ranked, file)]),
        slope=slope(trained),
        correlations=", ".join(f"{name} {value:g}" for name, value in figures["rank_correlation"].items()),
        headings=headings(ranked, trained),
        rows=table(figures, ranked, bool(metrics_of(trained))),
        pictures=encode(grid) if grid else None,
        command=figures["command"],
    )  # fmt: skip
    write_file_whole(lambda partial: partial.write_text(text, encoding="utf-8"), file)


def headings(ranked: Sequence[Cut], trained: Sequence[Cut]) -> list[str]:
    """What the columns of `table` hold."""
    seconds = ["seconds"] if has_seconds(ranked) else []
    metric = [title_of(first_metric(trained[0])[0])] if metrics_of(trained) else []
    return ["layers chosen by", "parameters", "GMACs", *seconds, "error untrained", "error trained", *metric]


def metrics_of(trained: Sequence[Cut]) -> bool:
    """Whether the config had a metric for what was trained."""
    return bool(trained) and first_metric(trained[0]) is not None


def has_seconds(cuts: Sequence[Cut]) -> bool:
    """Whether the seconds of candidates were measured."""
    return bool(cuts) and "seconds" in cuts[0].cost


def subtitle(space: Space, figures: Mapping) -> str:
    """Whose student is looked for, for which budget."""
    teacher = space.family.checkpoint.name
    asked = ", ".join(budget["asked"] for budget in figures["budgets"])
    base = "" if not space.base else f", among the layers that {Path(figures['config']).stem} keeps"
    return f"of {teacher}{base}" + (f", budget {asked}" if asked else "")


def best_of(space: Space, figures: Mapping, cut: Cut, config: str) -> dict:
    """The headline: the best cut, its size and its scores, with its picture and its config."""
    teacher = figures["teacher"]["cost"]
    shares = {unit: round(100 * cut.cost[unit] / teacher[unit]) for unit in ("parameters", "gmacs")}
    shown = [
        (count(cut.cost["parameters"]), f"parameters, {shares['parameters']} % of the teacher's", shares["parameters"]),
        (operations(cut.cost["gmacs"]), f"of a call, {shares['gmacs']} % of the teacher's", shares["gmacs"]),
    ]
    if "seconds" in cut.cost:
        share = round(100 * cut.cost["seconds"] / teacher["seconds"])
        shown.append((f"{share} %", "of the teacher's time for a call", share))
    if metric := first_metric(cut):
        whole = (figures["teacher"]["metrics"] or {}).get(metric[0])
        beside = "" if whole is None else f"; the teacher {with_unit(whole, unit_of(metric[0]))}"
        shown.append((with_unit(metric[1], unit_of(metric[0])), title_of(metric[0]) + beside, None))
    after = "" if cut.trained_error is None else f" and {cut.trained_error:.3g} after {figures['plan']['steps']} steps"
    sentence = f"Layers chosen by: {cut.pattern}. The error is {cut.error:.3g} before training{after}."
    return dict(sentence=sentence, figures=shown, picture=network_picture(space.drawn(cut)), config=config)


def sensitivity(space: Space, scores: Sequence[Mapping]) -> Markup:
    """The network, each layer as dark as the logarithm of its score."""
    known = {row["name"]: row["error"] for row in scores if row["error"] is not None}
    drawn = space.drawn(Cut("", dict(space.base), [], {}))
    shades = {}
    logs = [math.log(max(value, 1e-9)) for name, value in known.items()]
    low, high = min(logs, default=0), max(logs, default=1)
    for layer in (name for layers in drawn.values() for name in layers):
        name = layer if layer in known else layer.removesuffix(".transformer_blocks.0")
        if name in known:
            place = (math.log(max(known[name], 1e-9)) - low) / ((high - low) or 1)
            shades[layer] = 0.06 + 0.94 * place, f"{known[name]:.3g}"
    return network_picture(drawn, shades)


def score_rows(scores: Sequence[Mapping]) -> list[tuple[str, str, str]]:
    """Stages and groups, then the layers that are worth most and least, each with its score and size."""
    known = [row for row in scores if row["error"] is not None]
    layers = sorted((row for row in known if "." in row["name"] and " " not in row["name"]), key=lambda row: -row["error"])
    ends = layers if len(layers) <= 2 * TEN else [*layers[:TEN], *layers[-TEN:]]
    shown = [*(row for row in known if row not in layers), *ends]
    return [(row["name"], f"{row['error']:.3g}", f"{100 * row['parameters']:.1f} %") for row in shown]


def earlier(figures: Mapping, ranked: Sequence[Cut], file: Path) -> list[Cut]:
    """What other searches of the same config have left in the folder: the page of several budgets shows all."""
    known, found = {cut.key for cut in ranked}, {}
    for other in sorted(file.parent.glob("*.json")):
        try:
            content = read_json(other)
            cuts = [Cut(**cut) for cut in content["candidates"]] if content["config"] == figures["config"] else []
        except (InputError, KeyError, TypeError):  # a file of something else
            continue
        for cut in cuts:
            if cut.key not in known and (cut.key not in found or cut.trained_error is not None):
                found[cut.key] = cut
    return list(found.values())


def scattered(name: str, points: Sequence[tuple[float, float]], style: str) -> Line:
    """Points that no line joins."""
    steps = [cost for cost, _ in points for _ in (0, 1)]
    values = [value for _, error in points for value in (error, None)]
    return Line(name, steps, values, style)


def charts(figures: Mapping, ranked: Sequence[Cut]) -> list[Chart]:
    """Cuts over their parameters: errors before and after training with the best of each size, and the metric."""
    if not ranked:
        return []
    whole = figures["teacher"]["cost"]["parameters"]

    def share(cut: Cut) -> float:
        return round(100 * cut.cost["parameters"] / whole, 2)

    def drawn(title: str, points: list, unit: str, note: str, **options) -> Chart:
        front = pareto([(cost, -value if options.get("zero") else value) for cost, value in points])
        front = [(cost, -value if options.get("zero") else value) for cost, value in front]
        lines = [scattered("cuts", points, "untrained"), Line("front", [c for c, _ in front], [v for _, v in front])]
        return Chart(title, lines, unit, note, axis="parameters, % of the teacher's", **options)

    found = [drawn("error before training", [(share(cut), cut.error) for cut in ranked], "", "lower is better", log=True)]
    trained = [cut for cut in ranked if cut.trained_error is not None]
    if trained:
        points = [(share(cut), cut.trained_error) for cut in trained]
        found.append(drawn("error after training", points, "", "lower is better", log=True))
    if trained and trained[0].metrics:
        name = first_metric(trained[0])[0]
        points = [(share(cut), cut.metrics[name]) for cut in trained if name in cut.metrics]
        found.append(drawn(title_of(name), points, unit_of(name), "after training", zero=True))
    return found


def table(figures: Mapping, ranked: Sequence[Cut], metric: bool) -> list[list[str]]:
    """A row for every candidate, the best first."""
    whole = figures["teacher"]["cost"]
    rows = []
    for cut in ranked:
        row = [cut.pattern, percent(cut.cost["parameters"], whole["parameters"]), percent(cut.cost["gmacs"], whole["gmacs"])]
        row += [percent(cut.cost["seconds"], whole["seconds"])] if "seconds" in cut.cost else []
        row += [f"{cut.error:.3g}", "–" if cut.trained_error is None else f"{cut.trained_error:.3g}"]
        if metric:
            found = first_metric(cut)
            row.append("–" if found is None else with_unit(found[1], unit_of(found[0])))
        rows.append(row)
    return rows


def slope(trained: Sequence[Cut]) -> Markup | None:
    """The trained cuts in the order of their errors before training, at the left, and in the final one, at the right."""
    if len(trained) < 2:
        return None
    before = sorted(trained, key=lambda cut: cut.error)
    parts = []
    for after, cut in enumerate(trained):
        first, last = (ROW * place + 34 for place in (before.index(cut), after))
        style = "student" if after == 0 else "untrained"
        name = cut.pattern if len(cut.pattern) <= 44 else f"{cut.pattern[:43]}…"
        parts.append(f'<text x="{NAME - 12}" y="{first + 4}" class="end">{cut.error:.3g}</text>')
        parts.append(f'<line class="{style}" stroke-width="2" x1="{NAME}" x2="{WIDE - 330}" y1="{first}" y2="{last}"/>')
        parts.append(f'<text x="{WIDE - 320}" y="{last + 4}">{escape(name)}</text>')
    tall = ROW * len(trained) + 34
    return Markup(
        f'<svg viewBox="0 0 {WIDE} {tall}" style="max-width:{WIDE}px;width:100%" role="img" aria-label="ranks before and'
        f' after training"><text x="{NAME - 12}" y="14" class="end">error before training</text>'
        f'<text x="{WIDE - 320}" y="14">after training, the best at the top</text>{"".join(parts)}</svg>'
    )


def write_grid(file: Path, trained: Sequence[Cut], prompts: Sequence[str]) -> Path | None:
    """The grid of pictures of teacher and best cuts, beside the page; None where there are none."""
    folders = {TEACHER: file.parent / TEACHER} | {
        f"{n}. {cut.pattern}": Path(cut.folder) for n, cut in enumerate(trained, 1)
    }
    rows = {name: np.load(folder / PICTURES) for name, folder in folders.items() if (folder / PICTURES).exists()}
    if len(rows) < 2 or not prompts:
        return None
    grid = picture_grid([list(pictures) for pictures in rows.values()], list(rows), prompts)
    return write_file_whole(lambda partial: grid.save(partial, format="PNG"), file.with_suffix(".png"))
