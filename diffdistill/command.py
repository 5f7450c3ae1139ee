"""What the command-line tools share."""

import functools
import os
import sys
from collections.abc import Callable

INTERRUPTED = 130  # what a shell gives for a command that Ctrl-C has stopped


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Show a mistake of the user as one line without a traceback, and exit with status 2; Ctrl-C likewise, with 130."""

    @functools.wraps(main)
    def run() -> None:
        from diffdistill.errors import InputError

        # Of the libraries' warnings none is about what the user gave; errors still show.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        try:
            main()
        except InputError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "interrupted", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None

    return run


def one_line(error: Exception) -> str:
    """What `error` says. From a worker of a DataLoader it comes with its whole traceback as the message."""
    lines = str(error).strip().splitlines()
    if any(line.startswith(("Traceback", "Original Traceback")) for line in lines):
        return lines[-1].removeprefix("diffdistill.errors.InputError: ")
    return " ".join(line.strip() for line in lines)


def parse_options(pairs: list[str] | None) -> dict:
    """`--cfg-options` as MMEngine reads them: "a.b=1 c=[x,y]" -> {"a.b": 1, "c": ["x", "y"]}."""
    from mmengine.config import DictAction

    from diffdistill.errors import InputError

    options = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--cfg-options {pair}: write KEY=VALUE")
        try:
            options[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise InputError(f"--cfg-options {pair}: {error}") from None
    return options
