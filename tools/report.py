"""Write the page of a run again, or one page that compares several runs, from the files in their folders."""

import argparse

from diffdistill.command import command


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run, e.g. work_dirs/small_sd_xl_shapes")
    parser.add_argument("--out", metavar="FILE", help="default: RUN/report.html of one run, comparison.html of several")
    args = parser.parse_args()

    from diffdistill.files import check_file
    from diffdistill.report.write import write_comparison, write_report

    if args.out:
        check_file(args.out, "--out")
    if len(args.runs) == 1:
        print(write_report(args.runs[0], args.out))
    else:
        print(write_comparison(args.runs, args.out or "comparison.html"))


if __name__ == "__main__":
    main()
