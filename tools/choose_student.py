"""Find the student of a config's teacher for a budget: score layers, rank cuts, train the best for a few steps."""

import argparse
import shlex
import sys
from pathlib import Path

from diffdistill.command import command, parse_options


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__)
    whole.add_argument("config", help="a distillation: its teacher, data and losses; a keep list is the space to search in")
    whole.add_argument(
        "--budget",
        nargs="+",
        default=[],
        metavar="UNIT=N",
        help="parameters, gmacs or seconds, as a share of the teacher's (or above 1 an amount); gb: weights of the whole"
        " pipeline in fp16; several must all be met",
    )
    whole.add_argument("--out", help="folder of all that is written (default: work_dirs/choose_<config>)")
    whole.add_argument("--name", help="of the config that is written (default: <config>_<budget>)")
    whole.add_argument("--sensitivity-only", action="store_true", help="the scores of layers and their page, nothing else")
    whole.add_argument("--plan", action="store_true", help="say what there is to do, and do nothing; downloads nothing")
    whole.add_argument("--samples", type=int, default=64, help="pictures that errors are measured on (default: %(default)s)")
    whole.add_argument("--candidates", type=int, default=20, help="cuts whose error is measured (default: %(default)s)")
    whole.add_argument("--train", type=int, default=5, help="cuts that are trained (default: %(default)s)")
    whole.add_argument("--steps", type=int, help="of a short training (default: the config's own, 300 at most)")
    whole.add_argument("--seed", type=int, help="of samples and trainings (default: the config's)")
    whole.add_argument(
        "--repeat", nargs="+", type=int, default=[], metavar="SEED", help="train the best again with these seeds"
    )
    whole.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    whole.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    return whole


@command
def main() -> None:
    args = parser().parse_args()

    import contextlib
    import json

    from diffdistill.config.read import load_config
    from diffdistill.errors import InputError
    from diffdistill.families.architectures import planning
    from diffdistill.files import check_file, write_text_whole
    from diffdistill.search.budget import parse_budgets
    from diffdistill.search.choose import Search
    from diffdistill.search.settings import Settings
    from diffdistill.search.table import print_found, print_plan

    budgets = parse_budgets(args.budget)
    if not budgets and not args.sensitivity_only:
        raise InputError("--budget: say what the student may cost, e.g. parameters=0.5, or give --sensitivity-only")
    for option in ("samples", "candidates", "train", "steps"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise InputError(f"--{option}={value}: give 1 or more")
    if args.json:
        check_file(args.json, "--json")
    config = load_config(args.config, parse_options(args.cfg_options))
    stem = Path(config.filename).stem
    name = args.name or "_".join([stem, *(f"{unit}_{number:g}".replace(".", "") for unit, number in budgets.items())])
    if args.sensitivity_only:
        name = args.name or f"{stem}_sensitivity"
    settings = Settings(budgets, args.samples, args.candidates, args.train, args.steps, args.seed, tuple(args.repeat))
    out = Path(args.out or Path("work_dirs", f"choose_{stem}"))
    with planning() if args.plan else contextlib.nullcontext():
        search = Search(config, settings, out)
        print_plan(search.plan())
    if args.plan:
        return
    written = " ".join(["mim run diffdistill choose_student", *map(shlex.quote, sys.argv[1:])])
    figures = search.run(written, name, args.sensitivity_only)
    print_found(figures, out, name)
    if args.json:
        write_text_whole(Path(args.json), json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
