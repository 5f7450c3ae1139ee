"""Encode the training data of a config once: trainings then read latents and embeddings, and load no encoder."""

import argparse
import os
import sys
from pathlib import Path

from diffdistill.command import command, parse_options


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__)
    whole.add_argument("config", help="a config file, or the name of one of the project's configs")
    whole.add_argument(
        "out", nargs="?", help="folder of the cache (default: the config's data_cache, or work_dirs/caches/<config>)"
    )
    whole.add_argument("--dtype", help="float32, bfloat16 or float16: what is kept (default: what the encoders compute)")
    whole.add_argument("--batch-size", type=int, help="pictures and captions at once (default: that of the config)")
    whole.add_argument("--shard-size", type=int, help="pictures and captions in a file (default: 256)")
    whole.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    whole.add_argument("--gpus", type=int, default=1, help="processes to start with --launcher pytorch (default: 1)")
    whole.add_argument("--launcher", choices=["none", "pytorch", "slurm"], default="none")
    whole.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return whole


@command
def main() -> None:
    args = parser().parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from diffdistill.config.read import load_config
    from diffdistill.engine.launch import place_of_rank
    from diffdistill.errors import InputError
    from diffdistill.runs.cache import CacheMaker

    if args.gpus < 1 or (args.gpus > 1 and args.launcher != "pytorch"):
        raise InputError(f"--gpus={args.gpus}: give 1 or more, with --launcher pytorch")
    config = load_config(args.config, parse_options(args.cfg_options))
    out = args.out or config.get("data_cache") or str(Path("work_dirs", "caches", Path(config.filename).stem))
    maker = CacheMaker(config, out, args.shard_size, args.batch_size, args.dtype)
    if args.launcher == "pytorch" and "RANK" not in os.environ:  # torchrun starts this very command again
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(args.gpus)]
        os.execv(sys.executable, [sys.executable, *torchrun, str(Path(__file__).resolve()), *sys.argv[1:]])
    cache = maker.make(*place_of_rank(args.launcher))
    if cache:
        print(cache.describe())
        print(f"Train from it: mim train diffdistill {args.config} --cfg-options data_cache={out}")


if __name__ == "__main__":
    main()
