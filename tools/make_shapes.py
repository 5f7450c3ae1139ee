"""Make the parts of the shapes benchmark: OUT/sdxl, OUT/sd, OUT/sd3, pipelines whose denoiser alone is untrained."""

import argparse
import functools
import json
import time
from pathlib import Path

from diffdistill.command import command

LAYOUTS = ["sdxl", "sd", "sd3"]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS, default=LAYOUTS, help="which pipelines (all)")
    parser.add_argument("--parts", help="take VAE and text encoders from this pipeline, such as diffdistill::sdxl_shapes")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same weights (%(default)s)")
    parser.add_argument("--vae-steps", type=int, default=6000, help="training steps of the VAE (%(default)s)")
    parser.add_argument("--text-steps", type=int, default=500, help="training steps of each text encoder (%(default)s)")
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    import torch

    from diffdistill.families.checkpoint import Checkpoint
    from diffdistill.families.loading import load_pipeline
    from diffdistill.families.saving import save_pipeline
    from diffdistill.files import check_new_folder, write_text_whole, write_whole
    from diffdistill.shapes.parts import make_pipeline
    from diffdistill.shapes.text_encoder import train_text_encoder
    from diffdistill.shapes.vae import round_trip, train_vae

    for layout in args.layout:
        check_new_folder(str(args.out / layout), "OUT")
    torch.set_num_threads(1)  # sums depend on the number of threads, and so would the weights
    start = time.perf_counter()

    def log(name: str, steps: int):
        every = max(1, steps // 20)

        def line(step: int, loss: float) -> None:
            if step % every == 0 or step == steps:
                print(f"{name}: step {step}/{steps}, loss {loss:.5f}, {time.perf_counter() - start:.0f} s", flush=True)

        return line

    if args.parts:
        given = load_pipeline(Checkpoint(args.parts, "--parts"))
        vae, encoder, encoder_2 = given.vae, given.text_encoder, given.text_encoder_2
        figures = {"seed": args.seed, "parts": args.parts}
    else:
        encoder, accuracy = train_text_encoder(args.seed, args.text_steps, log=log("text encoder", args.text_steps))
        figures = {"seed": args.seed, "text_steps": args.text_steps, "text_accuracy": accuracy}
        encoder_2 = None
        if args.layout != ["sd"]:
            encoder_2, figures["text_accuracy_2"] = train_text_encoder(
                args.seed, args.text_steps, projection=True, log=log("text encoder 2", args.text_steps)
            )
        vae = train_vae(args.seed, args.vae_steps, log=log("VAE", args.vae_steps))
        figures |= {"vae_steps": args.vae_steps, "scaling_factor": vae.config.scaling_factor}
        figures |= {"vae_round_trip": round_trip(vae, args.seed + 1, n=1024), "vae_round_trip_n": 1024}
    for layout in sorted(args.layout, key=LAYOUTS.index):
        pipeline = make_pipeline(layout, vae, encoder, encoder_2, args.seed)
        write_whole(functools.partial(save_pipeline, pipeline), args.out / layout)
        denoiser = pipeline.transformer if layout == "sd3" else pipeline.unet
        figures[f"{layout}_denoiser_parameters"] = denoiser.num_parameters()
    figures["seconds"] = round(time.perf_counter() - start, 1)
    write_text_whole(args.out / "parts.json", json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
