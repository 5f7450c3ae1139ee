"""A bar that counts, with how many a second and the time that is left."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def counting(disable: bool) -> Progress:
    """Bars on stderr, each of a task that has a field `rate`."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), disable=disable)


def noting(progress: Progress, bar: int) -> Callable[[int], None]:
    """What counts things that are done: it moves `bar` on and shows how many there are a second."""
    began, done = time.monotonic(), 0

    def note(count: int) -> None:
        nonlocal done
        done += count
        progress.update(bar, advance=count, rate=f"{done / (time.monotonic() - began):.1f}/s")

    return note
