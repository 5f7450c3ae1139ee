"""Train a student from a config: mim train diffdistill CONFIG, or python tools/train.py CONFIG."""

import argparse
import os

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    parser.add_argument("--work-dir", help="where the run writes (default: work_dirs/<config>)")
    parser.add_argument(
        "--resume", nargs="?", const="auto", metavar="PATH", help="go on from the run's last checkpoint, or from PATH"
    )
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from diffdistill.config.read import load_config
    from diffdistill.runs.train import train

    train(load_config(args.config, parse_options(args.cfg_options), args.work_dir), args.resume, args.launcher)


if __name__ == "__main__":
    main()
