"""What a config will train, before anything is downloaded: sizes, GMACs, layers kept, feature pairs and memory."""

import argparse
import json
from pathlib import Path

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    args = parser.parse_args()

    from diffdistill.config.read import load_config
    from diffdistill.config.summary import summarize
    from diffdistill.config.table import print_summary

    figures = summarize(load_config(args.config, parse_options(args.cfg_options)))
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for stage in figures.get("stages", [figures]):
        print_summary(stage, stage.get("title", Path(args.config).stem))


if __name__ == "__main__":
    main()
