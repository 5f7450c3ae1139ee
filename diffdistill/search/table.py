"""What a search says in the terminal."""

from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from diffdistill.report.numbers import duration, percent, title_of, unit_of, with_unit

FLOPS = 100e12  # operations a second: half of what an A100 does at most, of floating point, in half precision


def print_plan(plan: Mapping) -> None:
    """Print how much there is to do."""
    hours = 1e15 * plan["petaflops"] * 2 / FLOPS
    if plan["space"]:
        print(f"Space: what the config's student.keep keeps; it thins {plan['space']} lists already")
    print(
        f"Plan: {plan['errors']} scores ({plan['layers']} single layers), {plan['candidates']} candidates, {plan['trained']}"
        f" trainings of {plan['steps']} steps"
    )
    print(
        f"      {plan['forwards']:,} forwards of one picture outside training; {plan['petaflops']:,.3g} P MACs in all, about"
        f" {duration(hours)} on a GPU that does 100 TFLOP/s"
    )


def print_found(figures: Mapping, out: Path, name: str) -> None:
    """Print the candidates, the best first, or the scores where there are none, and where everything is."""
    table = Table(box=box.SIMPLE_HEAD)
    whole = figures["teacher"]["cost"]
    if cuts := figures["candidates"]:
        metric = next((next(iter(cut["metrics"]), None) for cut in cuts if cut["metrics"]), None)
        seconds = "seconds" in cuts[0]["cost"]
        columns = ["layers chosen by", "parameters", "GMACs", *(["seconds"] if seconds else []), "untrained", "trained"]
        for column in columns + ([title_of(metric)] if metric else []):
            table.add_column(column, justify="left" if column == columns[0] else "right", overflow="fold")
        for cut in cuts:
            row = [cut["pattern"], *(percent(cut["cost"][unit], whole[unit]) for unit in ("parameters", "gmacs"))]
            row += [percent(cut["cost"]["seconds"], whole["seconds"])] if seconds else []
            row += [f"{cut['error']:.4f}", "–" if cut["trained_error"] is None else f"{cut['trained_error']:.4f}"]
            value = cut["metrics"].get(metric)
            row += ["–" if value is None else with_unit(value, unit_of(metric))] if metric else []
            table.add_row(*row)
    else:
        table.add_column("left out")
        table.add_column("error", justify="right")
        table.add_column("of the parameters", justify="right")
        for row in sorted((r for r in figures["scores"] if r["error"] is not None), key=lambda row: -row["error"]):
            table.add_row(row["name"], f"{row['error']:.4f}", f"{100 * row['parameters']:.1f} %")
    Console().print(table)
    if cuts and cuts[0]["seeds"]:
        values = (
            f"{value:.4g} (seed {seed})" for seed, found in cuts[0]["seeds"].items() for value in [*found.values()][:1]
        )
        print(f"The best again, {title_of(metric or 'metric')}: {', '.join(values)}")
    for pair, value in figures["rank_correlation"].items():
        print(f"rank correlation, {pair}: {value:g}")
    if "file" in figures:
        print(f"Config: {figures['file']}\n  train it with: mim train diffdistill {figures['file']}")
    print(f"Figures: {out / f'{name}.json'}\nPage: {out / f'{name}.html'}")
