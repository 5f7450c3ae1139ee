"""Save a whole pipeline around what a run trained: a folder of diffusers with a model card, or a single file for ComfyUI.

With --runtime the folder's models are graphs for ONNX Runtime or OpenVINO, from which `sample` and `mim test` draw.
"""

import argparse

from diffdistill.command import command, parse_options


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__)
    whole.add_argument("config", help="a config file, or the name of one of the project's configs")
    whole.add_argument("given", nargs="?", metavar="checkpoint", help="as --checkpoint")
    whole.add_argument("out", help="folder for the pipeline; with --single-file a file *.safetensors")
    whole.add_argument(
        "--checkpoint", help="a .pth, a denoiser's folder or step<N> (default: what the config's run exported)"
    )
    kind = whole.add_mutually_exclusive_group()
    kind.add_argument("--ema", dest="averaged", action="store_true", default=None, help="of a .pth the average (default)")
    kind.add_argument("--raw", dest="averaged", action="store_false", help="of a .pth the weights that were not averaged")
    whole.add_argument("--fuse-lora", action="store_true", help="add an adapter to the weights, instead of saving it beside")
    whole.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], help="default: float16; for onnx float32")
    whole.add_argument("--runtime", choices=["onnx", "openvino"], help="write graphs for ONNX Runtime or OpenVINO instead")
    whole.add_argument(
        "--compress", choices=["int8"], help="with --runtime: weights of denoiser and text encoders in 8 bits"
    )
    whole.add_argument("--single-file", action="store_true", help="write one file in the original layout of SD 1.x, 2.x, XL")
    whole.add_argument("--names", choices=["comfyui", "sd.cpp"], default="comfyui", help="of its blocks (default: comfyui)")
    whole.add_argument(
        "--quantize", choices=["int8", "int4", "fp8"], help="of a student that was trained with full weights (needs torchao)"
    )
    whole.add_argument("--speed", metavar="FILE", help="for the card: what `benchmark inference --json FILE` has written")
    whole.add_argument("--licence", metavar="NAME", help="of the teacher (default: as its own model card says)")
    whole.add_argument("--push-to-hub", metavar="NAME", help="upload the folder as this repository, too")
    whole.add_argument("--private", action="store_true", help="make that a private one")
    whole.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    return whole


def check_single(args: argparse.Namespace) -> None:
    """Raise InputError for options that do not go together with a single file, or only with one."""
    from diffdistill.errors import InputError

    folders = {
        "--runtime": args.runtime,
        "--quantize": args.quantize,
        "--speed": args.speed,
        "--push-to-hub": args.push_to_hub,
    }
    given = [option for option, value in folders.items() if value]
    if args.single_file and given:
        raise InputError(f"{given[0]} is for a folder with a card, and --single-file writes none; leave one of them out")
    if not args.single_file and args.names != "comfyui":
        raise InputError(f"--names={args.names} is for --single-file; add that")
    if not args.single_file and args.out.endswith(".safetensors"):
        raise InputError(f"OUT={args.out} names a file; add --single-file, or name a folder")


@command
def main() -> None:
    args = parser().parse_intermixed_args()
    args.dtype = args.dtype or ("float32" if args.runtime == "onnx" else "float16")

    from diffdistill.config.read import load_config
    from diffdistill.config.stages import last_stage
    from diffdistill.errors import InputError
    from diffdistill.export.hub import check_name, push
    from diffdistill.export.pipeline import export_pipeline
    from diffdistill.export.single_file import export_single_file

    if args.given and args.checkpoint:
        raise InputError(f"--checkpoint={args.checkpoint}: {args.given} is given as the checkpoint already; leave one out")
    if args.private and not args.push_to_hub:
        raise InputError("--private: nothing is uploaded without --push-to-hub; leave it out")
    if args.compress and not args.runtime:
        raise InputError(f"--compress={args.compress}: only graphs are compressed; add --runtime=openvino or --runtime=onnx")
    if args.push_to_hub:
        check_name(args.push_to_hub)
    check_single(args)
    config = last_stage(load_config(args.config, parse_options(args.cfg_options)))
    if args.single_file:
        options = (args.dtype, args.fuse_lora, args.averaged, args.licence, args.names)
        print(*export_single_file(config, args.given or args.checkpoint, args.out, *options), sep="\n")
        return
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
        args.runtime,
        args.compress,
        args.quantize,
    )
    print(made)
    if args.push_to_hub:
        print(push(made, args.push_to_hub, args.private))


if __name__ == "__main__":
    main()
