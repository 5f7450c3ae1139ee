"""Pictures of teachers, students and pipelines for the same prompts, from the same initial noise, and a grid of all."""

import argparse

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a config (file or name), CONFIG=CHECKPOINT, a pipeline (folder, hub name, file), or diffdistill::sdxl_shapes",
    )
    parser.add_argument("--prompt", nargs="+", default=[], help="one picture each")
    parser.add_argument("--prompts-file", metavar="FILE", help="more prompts, one a line")
    parser.add_argument("--pictures", type=int, default=1, metavar="N", help="pictures of every prompt (default: 1)")
    parser.add_argument("--out", default="samples", help="folder for the pictures and grid.png (default: samples)")
    parser.add_argument(
        "--checkpoint",
        help="of configs without one: a .pth, a denoiser's folder or step<N> (default: what the run exported)",
    )
    parser.add_argument("--seed", type=int, default=0, help="column i starts from the noise of seed + i (default: 0)")
    parser.add_argument("--steps", type=int, help="sampler steps (default: the config's, or the pipeline's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the config's, or the pipeline's")
    parser.add_argument("--dtype", default="float32", help="of pipelines; a config says its own (default: float32)")
    parser.add_argument(
        "--config", help="of single files: folder or hub name of a pipeline of their kind, for its tokenizers"
    )
    parser.add_argument(
        "--controlnet", metavar="FOLDER", help="of pipelines: a ControlNet, or what transfer_controlnet made"
    )
    parser.add_argument("--control-image", metavar="FILE", help="the picture that it looks at")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the configs")
    args = parser.parse_args()

    from diffdistill.errors import InputError
    from diffdistill.sampling.control import Control
    from diffdistill.sampling.samplers import all_prompts, draw_rows, samplers
    from diffdistill.sampling.saving import check_out, save_samples

    if args.steps is not None and args.steps < 1:
        raise InputError(f"--steps={args.steps}: give 1 or more")
    if bool(args.controlnet) != bool(args.control_image):
        raise InputError("--controlnet and --control-image go together; give both, or none")
    check_out(args.out, args.sources)
    prompts = all_prompts(args.prompt, args.prompts_file, args.pictures)
    options = dict(num_inference_steps=args.steps, guidance_scale=args.guidance_scale)
    options = {key: value for key, value in options.items() if value is not None}
    control = Control(args.controlnet, args.control_image) if args.controlnet else None
    changes = parse_options(args.cfg_options)
    found = samplers(args.sources, options, args.checkpoint, changes, args.dtype, args.config, control)
    rows = draw_rows(found, prompts, range(args.seed, args.seed + len(prompts)))
    print(save_samples(rows, prompts, args.out))


if __name__ == "__main__":
    main()
