"""Fit a ControlNet, T2I-Adapter or IP-Adapter of a config's teacher to its student, and say how OUT is loaded."""

import argparse
import json
from pathlib import Path

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "adapter", help="of the teacher: the folder of a ControlNetModel or T2IAdapter, or an IP-Adapter's file"
    )
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    parser.add_argument("out", help="folder for the adapter")
    parser.add_argument("--thin", action="store_true", help="cut a ControlNet as the student is cut, to be trained on")
    parser.add_argument("--json", metavar="FILE", help="write what was kept to FILE as well")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    args = parser.parse_args()

    from diffdistill.config.read import load_config
    from diffdistill.config.stages import last_stage
    from diffdistill.export.controlnet_transfer import describe, transfer_controlnet
    from diffdistill.files import check_file, write_text_whole

    if args.json:
        check_file(args.json, "--json")
    config = last_stage(load_config(args.config, parse_options(args.cfg_options)))
    figures = transfer_controlnet(args.adapter, config, args.out, args.thin)
    if args.json:
        write_text_whole(Path(args.json), json.dumps(figures, indent=2) + "\n")
    print(describe(figures))
    print(f"{args.out}: {figures['load']}")


if __name__ == "__main__":
    main()
