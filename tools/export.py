"""Save a whole diffusers pipeline around what a run trained, with a model card: it loads with from_pretrained alone."""

import argparse

from diffdistill.command import command, parse_options


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__)
    whole.add_argument("config", help="a config file, or the name of one of the project's configs")
    whole.add_argument("given", nargs="?", metavar="checkpoint", help="as --checkpoint")
    whole.add_argument("out", help="folder for the pipeline")
    whole.add_argument(
        "--checkpoint", help="a .pth, a denoiser's folder or step<N> (default: what the config's run exported)"
    )
    kind = whole.add_mutually_exclusive_group()
    kind.add_argument("--ema", dest="averaged", action="store_true", default=None, help="of a .pth the average (default)")
    kind.add_argument("--raw", dest="averaged", action="store_false", help="of a .pth the weights that were not averaged")
    whole.add_argument("--fuse-lora", action="store_true", help="add an adapter to the weights, instead of saving it beside")
    whole.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16", help="default: float16")
    whole.add_argument("--speed", metavar="FILE", help="for the card: what `benchmark inference --json FILE` has written")
    whole.add_argument("--licence", metavar="NAME", help="of the teacher (default: as its own model card says)")
    whole.add_argument("--push-to-hub", metavar="NAME", help="upload the folder as this repository, too")
    whole.add_argument("--private", action="store_true", help="make that a private one")
    whole.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    return whole


@command
def main() -> None:
    args = parser().parse_intermixed_args()

    from diffdistill.config.read import load_config
    from diffdistill.config.stages import last_stage
    from diffdistill.errors import InputError
    from diffdistill.export.hub import check_name, push
    from diffdistill.export.pipeline import export_pipeline

    if args.given and args.checkpoint:
        raise InputError(f"--checkpoint={args.checkpoint}: {args.given} is given as the checkpoint already; leave one out")
    if args.private and not args.push_to_hub:
        raise InputError("--private: nothing is uploaded without --push-to-hub; leave it out")
    if args.push_to_hub:
        check_name(args.push_to_hub)
    config = last_stage(load_config(args.config, parse_options(args.cfg_options)))
    made = export_pipeline(
        config,
        args.given or args.checkpoint,
        args.out,
        args.dtype,
        args.fuse_lora,
        args.averaged,
        args.licence,
        args.speed,
        args.push_to_hub,
    )
    print(made)
    if args.push_to_hub:
        print(push(made, args.push_to_hub, args.private))


if __name__ == "__main__":
    main()
