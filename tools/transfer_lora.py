"""Fit a LoRA of a config's teacher to its student: OUT loads with load_lora_weights on a pipeline around the student."""

import argparse
import json
from pathlib import Path

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lora", help="a LoRA of the teacher: a file, or a folder with pytorch_lora_weights.safetensors")
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    parser.add_argument("out", help="folder for pytorch_lora_weights.safetensors")
    parser.add_argument("--json", metavar="FILE", help="write what was kept and dropped to FILE as well")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    args = parser.parse_args()

    from diffdistill.config.read import load_config
    from diffdistill.config.stages import last_stage
    from diffdistill.export.lora_transfer import print_figures, transfer_lora
    from diffdistill.files import check_file, write_text_whole

    if args.json:
        check_file(args.json, "--json")
    config = last_stage(load_config(args.config, parse_options(args.cfg_options)))
    figures = transfer_lora(args.lora, config, args.out)
    if args.json:
        write_text_whole(Path(args.json), json.dumps(figures, indent=2) + "\n")
    print_figures(figures)
    print(f"{args.out}: pipeline.load_lora_weights({args.out!r})")


if __name__ == "__main__":
    main()
