"""What the command-line tools share."""

import functools
import os
import sys
from collections.abc import Callable


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Show a mistake of the user as one line without a traceback, and exit with status 2."""

    @functools.wraps(main)
    def run() -> None:
        from diffdistill.errors import InputError

        # Of the libraries' warnings none is about what the user gave; errors still show.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        try:
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    return run


def parse_options(pairs: list[str] | None) -> dict:
    """`--cfg-options` as MMEngine reads them: "a.b=1 c=[x,y]" -> {"a.b": 1, "c": ["x", "y"]}."""
    from mmengine.config import DictAction

    from diffdistill.errors import InputError

    options = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--cfg-options {pair}: write KEY=VALUE")
        options[key] = DictAction._parse_iterable(value)
    return options
