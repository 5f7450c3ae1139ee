"""Measure speed, memory, training: `inference`, `runtimes`, `training` time models and steps, `quality` trains over seeds.

`steps` measures a student, or its teacher, after different numbers of sampling steps; `data` times the loading of pictures.
"""

import argparse

from diffdistill.command import command, parse_options


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)
    inference = commands.add_parser("inference", help="seconds and memory of denoisers and pipelines, side by side")
    inference.add_argument(
        "sources",
        nargs="+",
        help="pipeline or denoiser folders, hub names, diffdistill::sdxl_shapes, configs (the student) or CONFIG:teacher;"
        " the first is what the others are compared with",
    )
    inference.add_argument("--preset", choices=("rtx4090", "a100"), help="a published table: its steps and dtype")
    inference.add_argument("--resolution", type=int, help="side of a picture in pixels (default: the native one)")
    inference.add_argument("--steps", type=int, help="sampler steps (default: 25)")
    inference.add_argument("--batch", type=int, default=1, help="pictures at once (default: 1)")
    inference.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float16 on a GPU, else float32)")
    inference.add_argument("--guidance-scale", type=float, default=7.5, help="of the pipeline; 1 for none (default: 7.5)")
    inference.add_argument(
        "--variants",
        nargs="+",
        default=["eager"],
        metavar="V",
        help="eager, or words joined by +: channels_last, compile, and sdpa, plain, flash, efficient, cudnn or xformers",
    )
    inference.add_argument("--parts", nargs="+", choices=("step", "pipeline"), default=["step", "pipeline"])
    inference.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    runtimes = commands.add_parser("runtimes", help="one call of a denoiser in torch, OpenVINO and ONNX Runtime, on the CPU")
    runtimes.add_argument("source", help="as a source of `inference`")
    ways = ("torch", "torch-bf16", "openvino", "openvino-bf16", "openvino-int8", "onnx", "onnx-int8")
    what = f"default: {' '.join(ways)}; torch-compile takes minutes; the first is what the others are compared with"
    runtimes.add_argument("--ways", nargs="+", default=ways, metavar="W", help=what)
    runtimes.add_argument("--resolution", type=int, help="side of a picture in pixels (default: the native one)")
    runtimes.add_argument("--batch", type=int, default=1, help="samples at once (default: 1)")
    training = commands.add_parser("training", help="seconds of a training step and its parts, beside a bare loop's")
    training.add_argument("config", help="a config file, or the name of one of the project's configs")
    data = commands.add_parser("data", help="pictures a second that a worker loads, beside a plain loop")
    data.add_argument("config", help="a config file, or the name of one of the project's configs")
    quality = commands.add_parser("quality", help="caption accuracy of configs, over seeds")
    quality.add_argument("configs", nargs="+", help="config files, or names of the project's configs")
    quality.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    quality.add_argument("--folder", default="work_dirs/benchmark", help="where the runs go (default: %(default)s)")
    steps = commands.add_parser("steps", help="the metrics of a config's validation by sampling steps")
    steps.add_argument("config", help="a config file, or the name of one of the project's configs")
    steps.add_argument(
        "--checkpoint", help="a .pth or a denoiser's folder (default: the exported student of the config's run)"
    )
    steps.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="default: 1 2 4 8 16")
    steps.add_argument("--teacher", action="store_true", help="measure the teacher instead, with trailing DDIM")
    steps.add_argument("--guidance-scale", type=float, help="default: the config's, or the one the student is made for")
    for sub, rounds in ((inference, 10), (runtimes, 10), (training, 20), (data, 20)):
        sub.add_argument("--rounds", type=int, default=rounds, help="timed rounds (default: %(default)s)")
        sub.add_argument("--warmup", type=int, default=2, help="rounds before them (default: %(default)s)")
    for sub in (inference, runtimes, training):
        sub.add_argument("--random-weights", action="store_true", help="true sizes without a download")
    for sub in (training, data, quality, steps):
        sub.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the configs")
    for sub in (inference, runtimes, training, data, quality, steps):
        sub.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
        sub.add_argument("--csv", metavar="FILE", help="write the table to FILE as well")
    return whole


@command
def main() -> None:
    args = parser().parse_args()

    from diffdistill.benchmarks import tables
    from diffdistill.errors import InputError
    from diffdistill.files import check_file

    for option, file in (("--json", args.json), ("--csv", args.csv)):
        if file:
            check_file(file, option)
    if args.command == "inference":
        from diffdistill.benchmarks.inference import benchmark_inference, choose_protocol

        keys = ("preset", "device", "dtype", "steps", "resolution", "batch", "guidance_scale", "rounds", "warmup")
        options = {key: getattr(args, key) for key in keys}
        protocol = choose_protocol(**options, variants=tuple(args.variants), parts=tuple(args.parts))
        figures = benchmark_inference(args.sources, protocol, args.random_weights)
        tables.print_inference(figures)
    elif args.command == "runtimes":
        from diffdistill.benchmarks.inference import choose_protocol
        from diffdistill.benchmarks.runtimes import benchmark_runtimes

        keys = ("resolution", "batch", "rounds", "warmup")
        protocol = choose_protocol(device="cpu", **{key: getattr(args, key) for key in keys})
        figures = benchmark_runtimes(args.source, args.ways, protocol, args.random_weights)
        tables.print_runtimes(figures)
    elif args.command == "training":
        from diffdistill.benchmarks.training import measure_training
        from diffdistill.config.read import load_config

        config = load_config(args.config, parse_options(args.cfg_options))
        figures = measure_training(config, args.rounds, args.warmup, args.random_weights)
        tables.print_training(figures)
    elif args.command == "data":
        from diffdistill.benchmarks.data import measure_data
        from diffdistill.config.read import load_config

        figures = measure_data(load_config(args.config, parse_options(args.cfg_options)), args.rounds, args.warmup)
        tables.print_data(figures)
    elif args.command == "steps":
        from diffdistill.config.read import load_config
        from diffdistill.evaluation.few_steps import metrics_by_steps
        from diffdistill.runs.load import exported_student

        if args.teacher and args.checkpoint:
            raise InputError("--teacher: the teacher has no --checkpoint; leave one of them out")
        config = load_config(args.config, parse_options(args.cfg_options))
        checkpoint = None if args.teacher else args.checkpoint or exported_student(config)
        figures = metrics_by_steps(config, checkpoint, args.steps, args.guidance_scale)
        tables.print_steps(figures)
    else:
        from diffdistill.evaluation.seeds import accuracy_table, run_all

        figures = accuracy_table(run_all(args.configs, args.seeds, args.cfg_options, args.folder))
        tables.print_quality(figures, args.seeds)
    tables.write_json(figures, args.json)
    tables.write_csv(figures if isinstance(figures, list) else figures["rows"], args.csv)


if __name__ == "__main__":
    main()
