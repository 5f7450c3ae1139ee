"""Measure a student: the metrics of a config's validation, or its mean losses where the config has no validation."""

import argparse
import json
from pathlib import Path

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    what = "a checkpoint (.pth) of a run, the diffusers folder of a UNet or a pipeline, or the step<N> folder of an adapter"
    parser.add_argument("checkpoint", nargs="?", help=what + "; mim gives it here, others with --checkpoint")
    parser.add_argument("--checkpoint", dest="named", metavar="F", help=what)
    parser.add_argument("--work-dir", help="where the log goes (default: work_dirs/<config>)")
    parser.add_argument("--batches", type=int, default=20, help="batches to average losses over, without validation")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--launcher", choices=["none"], default="none", help=argparse.SUPPRESS)
    args = parser.parse_args()
    checkpoint = args.named or args.checkpoint
    if not checkpoint:
        parser.error("give --checkpoint F: " + what)

    from diffdistill.check import check_file
    from diffdistill.config import load_config
    from diffdistill.run import evaluate
    from diffdistill.stages import last_stage

    if args.json:
        check_file(args.json, "--json")
    config = last_stage(load_config(args.config, parse_options(args.cfg_options), args.work_dir))
    figures = evaluate(config, checkpoint, args.batches)
    for name, value in figures.items():
        print(f"{name}: {value:g}")
    if args.json:
        record = dict(config=args.config, checkpoint=checkpoint, **figures)
        Path(args.json).write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
