"""Cut an untrained student from its teacher: OUT loads in plain diffusers, by from_pretrained of the denoiser's class."""

import argparse

from diffdistill.command import command, parse_options


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="a config file, or the name of one of the project's configs")
    parser.add_argument("out", help="folder of the denoiser, e.g. ssd_1b/unet: config.json and the weights in fp32")
    parser.add_argument("--from", dest="teacher", metavar="FOLDER", help="the teacher's pipeline, instead of the config's")
    parser.add_argument("--cfg-options", nargs="+", metavar="KEY=VALUE", help="change keys of the config")
    args = parser.parse_args()

    from diffdistill.config.read import load_config
    from diffdistill.export.untrained import save_untrained_student

    config = load_config(args.config, parse_options(args.cfg_options))
    student = save_untrained_student(config, args.out, args.teacher)
    print(f"{args.out}: {student.num_parameters():,} parameters; {type(student).__name__}.from_pretrained({args.out!r})")


if __name__ == "__main__":
    main()
