"""Measure students: the metrics of a config's test or validation, or its mean losses where the config has neither."""

import argparse
import sys

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    what = "checkpoints (.pth) of runs, or folders of a denoiser, a pipeline or an adapter (step<N>); LABEL=PATH names one"
    parser.add_argument("checkpoint", nargs="*", help=what + "; mim gives them here, others with --checkpoint")
    parser.add_argument("--checkpoint", dest="named", nargs="+", default=[], metavar="F", help=what)
    parser.add_argument("--teacher", action="store_true", help="measure the teacher too, in the same table")
    parser.add_argument("--protocol", help="how to measure: a config of configs/_base_/evaluation (coco_30k), or a file")
    parser.add_argument("--work-dir", help="the log and results.json go to its test/ (default: work_dirs/<config>)")
    parser.add_argument("--batches", type=int, default=20, help="batches to average losses over, without validation")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--launcher", choices=["none"], default="none", help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if not args.checkpoint + args.named and not args.teacher:
        parser.error("give --checkpoint F: " + what)

    from rich.console import Console

    from diffdistill.config.read import load_config
    from diffdistill.config.stages import last_stage
    from diffdistill.evaluation.checkpoints import evaluate_all, read_labels, test_folder, write_results
    from diffdistill.evaluation.table import evaluation_table, protocol_lines, warning_lines
    from diffdistill.files import check_file

    if args.json:
        check_file(args.json, "--json")
    options = parse_options(args.cfg_options)
    config = last_stage(load_config(args.config, options, args.work_dir, protocol=args.protocol))
    records = evaluate_all(config, read_labels(args.checkpoint + args.named), args.teacher, args.batches)
    file = test_folder(config) / "results.json"
    write_results(config, records, file, *([args.json] if args.json else []))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(*protocol_lines(records[0]["protocol"]), sep="\n", soft_wrap=True)
    console.print(evaluation_table(records))
    for line in warning_lines(records):
        console.print(line, soft_wrap=True)
    console.print(f"Figures: {file}", soft_wrap=True)


if __name__ == "__main__":
    main()
