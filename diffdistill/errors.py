"""What the user gave cannot work: the one exception that means so, and the one warning that a part of it cannot."""

import functools
import logging
import math


class InputError(ValueError):
    """A mistake in a config, a file or an argument.

    The message is one line that names the key or file, the value, and what would be right. The command-line tools print it
    without a traceback and exit with status 2.
    """


def check_range(where: str, value: float, above: float, up_to: float = math.inf) -> float:
    """`value`, or InputError unless it is a number above `above` and not beyond `up_to`; `where` names it."""
    if not isinstance(value, int | float) or not above < value <= up_to or value == math.inf:
        most = "" if up_to == math.inf else f" and at most {up_to:g}"
        raise InputError(f"{where}={value!r} must be a number above {above:g}{most}")
    return value


@functools.cache
def warn_once(message: str) -> None:
    """One line on stderr, however often the same is found: a data set, for one, is built for the check and for the run."""
    logging.getLogger("diffdistill").warning("warning: %s", message)
