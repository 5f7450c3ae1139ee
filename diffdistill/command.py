"""What the command-line tools share."""

import functools
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a shell gives for a command that Ctrl-C has stopped, and for one whose output nobody reads any more.
INTERRUPTED, UNREAD = 130, 141
# What a training adds: its losses were not finite, and a signal has stopped it, which --resume undoes (see errors.Stopped).
DIVERGED, STOPPED = 3, 75


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Show a mistake of the user as one line without a traceback, and exit with status 2; Ctrl-C likewise, with 130.

    A training that diverges ends with 3, one that a signal has stopped after a save with 75.
    Where the reader of the output has gone, as with `| head`, nothing is shown, and the status is 141.
    """

    @functools.wraps(main)
    @unread_is_no_error()
    def run() -> None:
        from diffdistill.errors import Diverged, InputError, Stopped
        from diffdistill.files import describe_disk_error

        # Of the libraries' warnings none is about what the user gave; errors still show.
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it where it is installed
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        try:
            main()
        except InputError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from None
        except Diverged as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise SystemExit(DIVERGED) from None
        except OSError as error:
            if not (described := describe_disk_error(error)):
                raise
            print(f"error: {described}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt as interrupt:
            print(str(interrupt) or "interrupted", file=sys.stderr)
            raise SystemExit(STOPPED if isinstance(interrupt, Stopped) else INTERRUPTED) from None

    return run


@contextmanager
def unread_is_no_error() -> Iterator[None]:
    """End quietly where the reader of stdout has gone. A training goes on until its end: its log is in a file as well."""
    logging.raiseExceptions = False  # or the log of a training would show a traceback for each of its lines
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # when Python exits it is too late
    except (BrokenPipeError, SystemExit) as ended:
        by_rich = isinstance(ended, SystemExit) and isinstance(ended.__context__, BrokenPipeError)
        if not by_rich and not (isinstance(ended, BrokenPipeError) and is_unread(sys.stdout)):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
        raise SystemExit(UNREAD) from None


def is_unread(stream) -> bool:
    """Whether `stream` is a pipe whose reader has gone."""
    try:
        poll = select.poll()
        poll.register(stream, 0)  # no event but errors
        return bool(poll.poll(0))
    except (AttributeError, ValueError, OSError):  # no `poll` on this system, or no file behind the stream
        return False


def one_line(error: Exception) -> str:
    """The message of `error` as one line: the last one of an error in a DataLoader's worker, which has a whole traceback."""
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
