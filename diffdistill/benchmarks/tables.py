"""The figures of a benchmark as tables for a terminal, as JSON and as CSV."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from diffdistill.benchmarks.machine import described
from diffdistill.benchmarks.published import PRESETS
from diffdistill.files import write_text_whole
from diffdistill.metrics.protocol import describe_sampling, split

NARROW = 100  # columns below which figures of the second rank are left out
PART_NAMES = {
    "data": "load the batch",
    "encode": "encode it (VAE, text)",
    "teacher": "teacher forward",
    "student": "student forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "rest": "noise, losses, log",
    "iteration": "whole iteration",
    "uncached": "the same without the cache",
    "step": "step, already encoded",
    "bare": "bare torch loop",
}


def terminal() -> Console:
    """The console to print to; 120 columns wide where the output is no terminal and COLUMNS is not set."""
    return Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 120, highlight=False)


def table(title: str, columns: Iterable[str]) -> Table:
    """A table whose first column is text and whose others are figures."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        drawn.add_column(name, justify="right" if number else "left", no_wrap=bool(number), overflow="fold")
    return drawn


def shown(value: float | None, digits: int = 3) -> str:
    """`value` with at least three significant digits; a dash for None."""
    if value is None:
        return "–"
    return f"{value:,.{digits}g}" if abs(value) < 100 else f"{value:,.0f}"


def label(row: Mapping, several: bool) -> str:
    """The model's name, with its variant where the rows have `several`."""
    return f"{row['model']}, {row['variant']}" if several else row["model"]


def inference_tables(figures: Mapping, width: int) -> list[Table]:
    """One table for the denoiser's step and one for the pipeline, without p90 where the terminal is narrow."""
    rows, protocol, tables = figures["rows"], figures["protocol"], []
    several, wide = len(protocol["variants"]) > 1, width >= NARROW
    resolutions = " / ".join(f"{size}²" for size in dict.fromkeys(row["resolution"] for row in rows))
    setting = f"{resolutions}, {protocol['dtype']}, batch {protocol['batch']}"
    if any("step_seconds" in row for row in rows):
        columns = ["model", "parameters", "GMACs", "seconds", *(["p90"] if wide else []), "speed-up", "peak GB"]
        tables.append(table(f"One call of the denoiser: {setting}", columns))
        for row in rows:
            p90 = [shown(row["step_p90"])] if wide else []
            size = f"{row['parameters']:,}" if wide else f"{row['parameters'] / 1e6:,.1f} M"
            speed = [shown(row["step_seconds"]), *p90, f"{row['step_speedup']:.2f} ×", shown(row["step_peak_gb"])]
            tables[-1].add_row(label(row, several), size, shown(row["gmacs"]), *speed)
    if any("pipeline_seconds" in row for row in rows):
        preset = PRESETS.get(protocol["preset"])
        columns = ["model", "seconds", *(["p90"] if wide else []), "images/s", "speed-up", "peak GB"]
        columns += [f"{preset.device}: s", "GB"] if preset else []
        guided = f"guidance {protocol['guidance_scale']:g}" if protocol["guidance_scale"] > 1 else "no guidance"
        tables.append(table(f"Whole pipeline: {protocol['steps']} steps, {guided}, {setting}", columns))
        for row in rows:
            if "pipeline_seconds" not in row:
                continue
            p90 = [shown(row["pipeline_p90"])] if wide else []
            speed = [shown(row["images_per_second"]), f"{row['pipeline_speedup']:.2f} ×", shown(row["pipeline_peak_gb"])]
            published = [shown(row["published_seconds"]), shown(row["published_peak_gb"])] if preset else []
            tables[-1].add_row(label(row, several), shown(row["pipeline_seconds"]), *p90, *speed, *published)
    return tables


def print_inference(figures: Mapping, console: Console | None = None) -> None:
    """Print the figures of `benchmark_inference` as tables, and how they were measured."""
    console = console or terminal()
    protocol = figures["protocol"]
    for drawn in inference_tables(figures, console.width):
        console.print(drawn)
    random = [row["model"] for row in figures["rows"] if row["weights"] == "random"]
    if random:
        console.print(f"random weights: {', '.join(dict.fromkeys(random))}", style="dim")
    if preset := PRESETS.get(protocol["preset"]):
        console.print(f"published: {preset.device}, {preset.steps} steps, {preset.dtype}; {preset.source}", style="dim")
    console.print(
        f"medians of {protocol['rounds']} interleaved rounds after {protocol['warmup']} for warm-up;"
        f" speed-up over the first row\n{described(figures['machine'])}",
        style="dim",
    )


def print_training(figures: Mapping, console: Console | None = None) -> None:
    """Print the figures of `measure_training` as a table, and how much of the machine's matmul speed a step reaches."""
    console = console or terminal()
    iteration = next(row for row in figures["rows"] if row["part"] == "iteration")["seconds"]
    title = f"A training step: batch {figures['batch_size']}, {figures['dtype']}"
    drawn = table(title, ["part", "seconds", "p90", "share", "of the bare loop"])
    for row in figures["rows"]:
        if row["part"] == "iteration":
            drawn.add_section()
        ratio = f"{row['of_bare']:.2f} ×" if "of_bare" in row else ""
        share = f"{row['seconds'] / iteration:.0%}".replace("%", " %")
        drawn.add_row(PART_NAMES[row["part"]], shown(row["seconds"]), shown(row["p90"]), share, ratio)
    console.print(drawn)
    console.print(
        f"{shown(figures['images_per_second'])} images/s, peak memory {shown(figures['peak_gb'])} GB\n"
        f"{shown(figures['model_tflop'])} TFLOP a step (teacher's forward, three times the student's):"
        f" {shown(figures['achieved_tflops'])} TFLOP/s,"
        f" [bold]{100 * figures['utilisation']:.0f} %[/] of the {shown(figures['ceiling_tflops'])} of a large matmul"
    )
    console.print(
        f"medians of {figures['rounds']} interleaved rounds, one update each\n{described(figures['machine'])}", style="dim"
    )


def print_data(figures: Mapping, console: Console | None = None) -> None:
    """Print the figures of `measure_data` as a table."""
    console = console or terminal()
    height, width = figures["size"]
    drawn = table(f"Files in, tensors of {height} x {width} out", ["", "pictures a second and worker", "of the plain loop"])
    for row in figures["rows"]:
        name = dict(plain="plain loop", ours="the data set").get(row["part"])
        drawn.add_row(name, shown(row["pictures_per_second"]), f"{row['of_plain']:.2f} ×")
    console.print(drawn)
    console.print(
        f"medians of {figures['rounds']} interleaved rounds over {figures['pictures']:,} pictures\n"
        f"{described(figures['machine'])}",
        style="dim",
    )


def print_quality(rows: Sequence[Mapping], seeds: Sequence[int], console: Console | None = None) -> None:
    """Print one table for every protocol, as figures of two protocols do not compare."""
    columns = ["config", "parameters", "steps", "teacher", "untrained", *(f"seed {seed}" for seed in seeds), "n"]
    for protocol, members in split(rows, lambda row: row["protocol"]):
        drawn = table(f"Caption accuracy, %: {describe_sampling(protocol)}", columns)
        for row in members:
            percents = [row["teacher"], row["untrained"], *(row["seeds"].get(seed) for seed in seeds)]
            scores = ("–" if value is None else f"{value:.1f}" for value in percents)
            drawn.add_row(row["config"], f"{row['parameters']:,}", str(row["steps"]), *scores, str(row["n"]))
        (console or terminal()).print(drawn)


def print_runtimes(figures: Mapping, console: Console | None = None) -> None:
    """Print the figures of `benchmark_runtimes` as a table, and how they were measured."""
    console, settings = console or terminal(), figures["protocol"]
    title = f"One call of {settings['model']}: {settings['resolution']}², batch {settings['batch']}"
    drawn = table(title, ["", "seconds", "p90", "speed-up", "difference", "weights, MB"])
    for row in figures["rows"]:
        speed = [shown(row["step_seconds"]), shown(row["step_p90"]), f"{row['step_speedup']:.2f} ×"]
        drawn.add_row(row["way"], *speed, f"{row['largest_difference']:.1e}", shown(row["weight_bytes"] / 1e6))
    console.print(drawn)
    console.print(
        f"{settings['weights']} weights; medians of {settings['rounds']} interleaved rounds after {settings['warmup']}"
        f" for warm-up; speed-up and largest difference to the first row, whose deviation is"
        f" {settings['output_deviation']:.2g}\n{described(figures['machine'])}",
        style="dim",
    )


def print_steps(rows: Sequence[Mapping], console: Console | None = None) -> None:
    """Print every metric of a model after each number of sampling steps: a column each, as figures have long names."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in ("model", "steps")))
    drawn = table(rows[0]["model"], ["sampling steps", *(str(row["steps"]) for row in rows)])
    for name in names:
        drawn.add_row(name.replace("_", " "), *(shown(row.get(name)) for row in rows))
    (console or terminal()).print(drawn)


def write_json(figures: object, file: str | None) -> None:
    """Write `figures` to `file` as JSON; None writes nothing."""
    if file:
        write_text_whole(Path(file), json.dumps(figures, indent=2) + "\n")


def write_csv(rows: Sequence[Mapping], file: str | None) -> None:
    """Write one line a row to `file`, nested figures as `seeds.0`; what a row lacks stays empty. None writes nothing."""
    if not file:
        return
    flat = [{f"{key}.{inner}": v for key, value in row.items() if isinstance(value, Mapping) for inner, v in value.items()}
            | {key: value for key, value in row.items() if not isinstance(value, Mapping)} for row in rows]  # fmt: skip
    names = list(dict.fromkeys(name for row in flat for name in row))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(flat)
    write_text_whole(Path(file), out.getvalue())
