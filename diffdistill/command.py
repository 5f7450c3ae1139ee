"""What the command-line tools share."""

import ast
import codecs
import functools
import io
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
        for library in ("bitsandbytes", "torchao", "torch.utils._pytree"):  # peft imports these where they are installed
            logging.getLogger(library).setLevel(logging.ERROR)
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
                stream.reconfigure(errors="replace")  # such a terminal or pipe has no frames and bars
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
    logging.Handler.handleError = drop_unread  # which shows a traceback for each line of a training's log
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # when Python exits it is too late
    except (BrokenPipeError, SystemExit) as ended:
        by_rich = isinstance(ended, SystemExit) and isinstance(ended.__context__, BrokenPipeError)
        if not by_rich and not (isinstance(ended, BrokenPipeError) and is_unread(sys.stdout)):
            raise
        send_nowhere(sys.stdout)
        raise SystemExit(UNREAD) from None


def drop_unread(handler: logging.Handler, record: logging.LogRecord) -> None:
    """What a logging handler does with a line that it cannot write: nothing, but that an unread stdout is read by nobody."""
    if is_unread(sys.stdout):
        send_nowhere(sys.stdout)


def send_nowhere(stream) -> None:
    """Let `stream` end in the null device, also what is still in its buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
    """The keys and values of `--cfg-options`: "a.b=1 c=[x,y]" -> {"a.b": 1, "c": ["x", "y"]}. Blanks in a value stay."""
    from diffdistill.errors import InputError

    options = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--cfg-options {pair}: write KEY=VALUE")
        try:
            options[key.strip()] = parse_value(value)
        except ValueError as error:
            raise InputError(f"--cfg-options {pair}: {error}") from None
    return options


def parse_value(text: str):
    """What `text` stands for: a number, True, False or None, a list in brackets or with commas, a dict as Python writes it.

    Anything else is text itself, and so is what stands in quotes. Raises ValueError for brackets without their other half.
    """
    text = text.strip()
    if text[:1] in ("'", '"', "{"):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            if text[0] == "{":
                raise ValueError("no dict; write {'key': value}, or its keys one by one, as a.b=1") from None
    if text.startswith("dict("):
        raise ValueError("write {'key': value}, or its keys one by one, as a.b=1")
    bracketed = text[:1] + text[-1:] in ("[]", "()")
    items = split(text[1:-1] if bracketed else text) if bracketed or "," in text else []
    if bracketed or len(items) > 1:
        values = [parse_value(item) for item in items if item.strip()]
        return tuple(values) if text.startswith("(") and bracketed else values
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return {"true": True, "false": False, "None": None}.get(text if text == "None" else text.lower(), text)


def split(text: str) -> list[str]:
    """The parts of `text` between the commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not parts[-1].strip():  # one inside a word is an apostrophe
            quote = character
        else:
            depth += (character in "[({") - (character in "])}")
            if character == "," and not depth:
                parts.append("")
                continue
        parts[-1] += character
    if depth or quote:
        raise ValueError("brackets or quotes without their other half")
    return parts
