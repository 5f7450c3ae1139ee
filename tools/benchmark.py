"""Compare runs and measure costs: `quality` trains configs over seeds, `step` times a training step against a bare loop."""

import argparse
import json
import sys
from pathlib import Path

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    quality = commands.add_parser("quality", help="caption accuracy of configs, over seeds")
    quality.add_argument("configs", nargs="+", help="config files, or names of the project's configs")
    quality.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    quality.add_argument("--folder", default="work_dirs/benchmark", help="where the runs go (default: %(default)s)")
    step = commands.add_parser("step", help="seconds of a training step and its parts")
    step.add_argument("config", help="a config file, or the name of one of the project's configs")
    step.add_argument("--rounds", type=int, default=20)
    for sub in (quality, step):
        sub.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the configs")
        sub.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    args = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    from diffdistill import benchmark
    from diffdistill.config import load_config
    from diffdistill.protocol import describe_sampling, split

    console = Console(width=None if sys.stdout.isatty() else 120)
    if args.command == "quality":
        figures = benchmark.accuracy_table(benchmark.run_all(args.configs, args.seeds, args.cfg_options, args.folder))
        columns = ["parameters", "steps", "teacher", "untrained", *(f"seed {seed}" for seed in args.seeds), "n"]
        for protocol, rows in split(figures, lambda row: row["protocol"]):  # figures of one protocol in one table
            table = Table("config", title=describe_sampling(protocol), title_justify="left")
            for column in columns:
                table.add_column(column, justify="right", no_wrap=True)
            for row in rows:
                percents = [row["teacher"], row["untrained"], *(row["seeds"].get(seed) for seed in args.seeds)]
                shown = ("-" if value is None else f"{value:.1f}" for value in percents)
                table.add_row(row["config"], f"{row['parameters']:,}", str(row["steps"]), *shown, str(row["n"]))
            console.print(table)
    else:
        config = load_config(args.config, parse_options(args.cfg_options), "work_dirs/benchmark/step")
        figures = benchmark.step_costs(config, args.rounds)
        table = Table()
        for column in ("part", "seconds (median)", "of the bare step"):
            table.add_column(column, justify="left" if column == "part" else "right")
        for part in ("load", "encode", "teacher", "bare", "step", "iteration"):
            ratio = figures.get(f"{part}_ratio", figures[part] / figures["bare"])
            table.add_row(part, f"{figures[part]:.4f}", f"{ratio:.2f}")
        console.print(table)
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
