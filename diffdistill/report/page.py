"""The pages, filled from templates that escape whatever they are given."""

from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from diffdistill.datasets.skipping import sample_name
from diffdistill.errors import shortened
from diffdistill.report import charts, headline, numbers
from diffdistill.report.data import Run
from diffdistill.report.network import network_picture, network_rows
from diffdistill.report.pictures import embed

TEMPLATES = Path(__file__).parent / "templates"
FIRST = 5  # samples and steps that were skipped and that the page names
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # names of compared runs


@cache
def environment() -> jinja2.Environment:
    """Jinja's environment for the templates: values are escaped, and a name that is not given is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.globals["inline"] = lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8"))
    found.filters |= dict(duration=numbers.duration)
    return found


def run_page(run: Run) -> str:
    """The page of one run."""
    validation = charts.validation_charts(run)
    return environment().get_template("run.html").render(
        run=run,
        status=status(run),
        summary=headline.sentence(run),
        warnings=headline.warnings(run),
        figures=headline.figures(run),
        gallery=gallery({"": run}),
        prompts=run.record.get("prompts", []),
        validation=validation[:2],
        more_validation=validation[2:],
        losses=charts.loss_charts(run),
        process=charts.process_charts(run),
        network=network(run),
        health=health(run),
        skipped=skipped(run),
    )  # fmt: skip


def comparison_page(runs: list[Run]) -> str:
    """The page that compares runs, each called by a letter."""
    names = dict(zip(LETTERS, distinct_names(runs), strict=False))
    metrics = charts.overlaid_metrics(runs, LETTERS)
    return environment().get_template("comparison.html").render(
        names=names,
        damaged=[each for run in runs for each in run.damaged],
        table=comparison_table(runs),
        metrics=metrics[:2],
        more_metrics=metrics[2:],
        losses=charts.overlaid_losses(runs, LETTERS),
        gallery=gallery({f"{letter} {names[letter]}": run for letter, run in zip(names, runs, strict=True)}),
    )  # fmt: skip


def gallery(runs: dict[str, Run]) -> dict:
    """The grids of runs, and the steps of all, over which one slider goes."""
    shown = {name: embed(run.grids) for name, run in runs.items()}
    steps = sorted({picture["step"] for pictures in shown.values() for picture in pictures})
    return dict(steps=steps, runs={name: pictures for name, pictures in shown.items() if pictures})


def status(run: Run) -> str:
    """How far a run is and when that was, e.g. "finished after 100 steps in 24 s"."""
    total, when = run.record.get("max_steps"), run.record.get("updated")
    starts = [start["seconds"] for start in run.record.get("starts", []) if start.get("seconds") is not None]
    took = f" in {numbers.duration(sum(starts))}" if starts else ""
    if run.finished:
        return f"finished after {run.steps:,} steps{took}" + (f", {when}" if when else "")
    return f"step {run.steps:,}" + (f" of {total:,}" if total and not run.stages else "") + (f", {when}" if when else "")


def network(run: Run) -> dict | None:
    """The picture and the table of teacher and student; None for a run whose record has none."""
    found = run.record.get("network")
    if not found:
        return None
    resnets = "resnets" in found["teacher"]["layers"]
    return dict(
        teacher=found["checkpoint"], picture=network_picture(found["kept"]), rows=network_rows(found), resnets=resnets
    )


def health(run: Run) -> list[tuple[str, str, bool]]:
    """What can go wrong on the way: rows of (what, how often, whether that is good)."""
    counts, samples = run.record.get("not_finite", {}), run.record.get("samples")
    steps = run.record.get("skipped_steps", [])
    rows = [
        ("steps with a loss that was infinite or no number", counts.get("loss"), None),
        ("steps with gradients that were infinite or no number", counts.get("grad_norm"), None),
        *([("steps that were skipped", len(steps), None)] if steps else []),
        ("samples that were skipped", run.record.get("skipped_samples"), samples),
    ]
    shown = [(what, how_many(number, of), not number) for what, number, of in rows]
    if (buckets := run.record.get("aspect_buckets")) and buckets["lost"] is not None:
        lost = f"{buckets['lost']:.1%}; to squares it would be {buckets['lost_to_squares']:.1%}"
        shown.append(("of a picture cropping to aspect buckets loses, on average", lost, True))
    return shown


def how_many(number: int | None, of: int | None) -> str:
    """A count as text, with what it is a part of where something was counted: "3 of 1,200"."""
    return "not counted" if number is None else f"{number:,}" + (f" of {of:,}" if number and of else "")


def skipped(run: Run) -> dict[str, list[str]]:
    """The first few samples and steps that were skipped, each with the reason, under what they are."""
    steps = [
        f"step {step['step']:,}: {step['reason']}" + (f" ({', '.join(step['samples'])})" if step.get("samples") else "")
        for step in run.record.get("skipped_steps", [])
    ]
    samples = [f"{sample_name(sample['row'], sample.get('file'))}: {sample.get('reason')}" for sample in run.skipped]
    found = {
        "the first samples that were skipped; skipped.jsonl lists all": samples,
        "the first steps that were skipped": steps,
    }
    return {title: [shortened(line, 300) for line in lines[:FIRST]] for title, lines in found.items() if lines}


def distinct_names(runs: list[Run]) -> list[str]:
    """The names of runs, with their folders where several have the same one."""
    names = [run.name for run in runs]
    return [run.folder.absolute().name if names.count(run.name) > 1 else run.name for run in runs]


def comparison_table(runs: list[Run]) -> list[tuple[str, list[str]]]:
    """Rows of (what, its value in every run); rows that no run can fill are left out."""
    sizes, times = [headline.sizes(run) for run in runs], [headline.sampling(run) for run in runs]
    rows: list[tuple[str, list]] = [
        ("teacher", [teacher.get("checkpoint") for teacher, _ in sizes]),
        ("steps", [f"{run.steps:,}" for run in runs]),
        ("pictures a step", [run.record.get("batch_size") or run.results.get("batch_size") for run in runs]),
        ("parameters", [student.get("parameters") and numbers.count(student["parameters"]) for _, student in sizes]),
        ("operations of a call", [student.get("gmacs") and numbers.operations(student["gmacs"]) for _, student in sizes]),
        *metric_rows(runs),
        ("measured by", [protocol_text(protocol_of(run)) for run in runs]),
        ("a training step takes", [numbers.seconds(run.results.get("seconds_per_step")) for run in runs]),
        ("a picture takes", [numbers.seconds(time.get("student")) for time in times]),
        ("with its teacher", [numbers.seconds(time.get("teacher")) for time in times]),
        ("on", [time.get("device") for time in times]),
    ]
    return [(label, [str(value or "") for value in values]) for label, values in rows if any(values)]


def marked(run: Run, metric: str, value: str | None) -> str | None:
    """A value with an exclamation mark where the run's last figures warn of `metric`."""
    warned = any(warning.startswith(f"{metric} ") for warning in headline.warnings(run))
    return f"{value} !" if value and warned else value


def metric_rows(runs: list[Run]) -> list[tuple[str, list[str | None]]]:
    """Every metric of the trained students, and of the main one what teachers and untrained students reach."""
    metrics, rows = list(dict.fromkeys(name for run in runs for name in numbers.metric_names(run.validation))), []
    for metric in metrics:
        found, unit = [headline.scores(run, metric) for run in runs], numbers.unit_of(metric)
        for role in ("student", "teacher", "untrained") if metric == metrics[0] else ("student",):
            values = [None if score[role] is None else numbers.with_unit(score[role], unit) for score in found]
            if role == "student":
                values = [marked(run, metric, value) for run, value in zip(runs, values, strict=True)]
            rows.append((numbers.title_of(metric) + ("" if role == "student" else f", {role}"), values))
    return rows


def protocol_of(run: Run) -> object:
    """The protocol of the last validation that has one, else None."""
    return next((record["protocol"] for record in reversed(run.validation) if record.get("protocol")), None)


def protocol_text(protocol: object) -> str:
    """A protocol as text, e.g. "steps 25, seed 0", lists in brackets."""
    if isinstance(protocol, dict):
        return ", ".join(f"{name} {protocol_text(value)}" for name, value in protocol.items())
    if isinstance(protocol, (list, tuple)):
        return "[" + ", ".join(map(protocol_text, protocol)) + "]"
    return str("" if protocol is None else protocol)
