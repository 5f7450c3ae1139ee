"""Save a whole diffusers pipeline around what a run trained: it loads with DiffusionPipeline.from_pretrained alone."""

import argparse

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    parser.add_argument("out", help="folder for the pipeline")
    parser.add_argument("--checkpoint", help="a .pth, UNet folder or step<N> (default: what the config's run exported)")
    parser.add_argument(
        "--fuse-lora", action="store_true", help="add an adapter to the weights, instead of saving it beside"
    )
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16", help="default: float16")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    args = parser.parse_args()

    from diffdistill.config import load_config
    from diffdistill.export import export_pipeline
    from diffdistill.stages import last_stage

    config = last_stage(load_config(args.config, parse_options(args.cfg_options)))
    print(export_pipeline(config, args.checkpoint, args.out, args.dtype, args.fuse_lora))


if __name__ == "__main__":
    main()
