"""Pictures for prompts, from a config's student or from the folder of a pipeline."""

import argparse

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "source", help="a config (file or name), the folder of a pipeline, or a packaged one (diffdistill::sdxl_shapes)"
    )
    parser.add_argument("--prompt", nargs="+", required=True, help="one picture each")
    parser.add_argument("--out", default="samples", help="folder for the pictures and grid.png (default: samples)")
    parser.add_argument(
        "--checkpoint", help="with a config: a .pth, UNet folder or step<N> (default: what its run exported)"
    )
    parser.add_argument("--seed", type=int, default=0, help="picture i starts from the noise of seed + i")
    parser.add_argument("--steps", type=int, help="sampler steps (default: the config's, or the pipeline's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the config's, or the pipeline's")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="with a config: change its keys")
    args = parser.parse_args()

    from diffdistill.sampling import sample_config, sample_pipeline, save_samples

    options = dict(num_inference_steps=args.steps, guidance_scale=args.guidance_scale)
    options = {key: value for key, value in options.items() if value is not None}
    seeds = range(args.seed, args.seed + len(args.prompt))
    rows = sample_pipeline(args.source, args.prompt, seeds, options)
    if rows is None:
        rows = sample_config(args.source, args.prompt, seeds, options, args.checkpoint, parse_options(args.cfg_options))
    print(save_samples(rows, args.prompt, args.out))


if __name__ == "__main__":
    main()
