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
    parser.add_argument("--check", action="store_true", help="find mistakes, tell sizes, memory and disk, and train nothing")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))

    from diffdistill.config.read import load_config

    config = load_config(args.config, parse_options(args.cfg_options), args.work_dir)
    if args.check:
        from diffdistill.runs.check import check_run

        check_run(config, args.resume)
        return

    from diffdistill.runs.train import train

    train(config, args.resume, args.launcher)


if __name__ == "__main__":
    main()
