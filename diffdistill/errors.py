"""How what was asked for ends otherwise: the user's mistakes, runs that diverge or are stopped, and warnings."""

import functools
import logging
import math
from collections.abc import Iterator


class InputError(ValueError):
    """A mistake in a config, a file or an argument.

    The message is one line that names the key or file, the value, and what would be right. The command-line tools print it
    without a traceback and exit with status 2.
    """


def shortened(value, most: int = 80) -> str:
    """`value` for a message: text as it is, anything else as Python writes it; printable, and cut to `most` characters."""
    text = value if isinstance(value, str) else repr(value)
    printable = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[: most + 1])
    return printable if len(printable) <= most else f"{printable[: most - 1]}…"


class Diverged(RuntimeError):
    """A training whose losses or gradients have stopped being finite. Its message is one line; tools exit with status 3."""


class Stopped(KeyboardInterrupt):
    """A run that a signal has stopped. Its message is one line and says how to go on; tools exit with status 75.

    75 is EX_TEMPFAIL of sysexits.h: nothing is wrong, and the same command with --resume finishes the run.
    """


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from or over."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_range(where: str, value: float, above: float, up_to: float = math.inf) -> float:
    """Return `value`; raises InputError, naming it `where`, unless it is a number above `above` and at most `up_to`."""
    if not isinstance(value, int | float) or not above < value <= up_to or value == math.inf:
        most = "" if up_to == math.inf else f" and at most {up_to:g}"
        raise InputError(f"{where}={value!r} must be a number above {above:g}{most}")
    return value


@functools.cache
def warn_once(message: str) -> None:
    """Print `message` to stderr once, however often it comes up: a data set is built for the check and again for the run."""
    logging.getLogger("diffdistill").warning("warning: %s", message)
