"""Writing the page of a run, and the page that compares runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffdistill.errors import InputError
from diffdistill.files import write_text_whole
from diffdistill.report.data import read_run
from diffdistill.report.page import LETTERS, comparison_page, run_page


def write_report(folder: str | Path, file: str | Path | None = None) -> Path:
    """Write the page of the run in `folder` to `file`, by default its `report.html`. Raises InputError if it has no run."""
    run = read_run(folder)
    return write_text_whole(Path(file or run.folder / "report.html"), run_page(run))


def write_comparison(folders: Sequence[str], file: str | Path) -> Path:
    """Write one page that compares the runs in `folders`, 26 at most. Raises InputError for a folder without a run."""
    if len(folders) > len(LETTERS):
        raise InputError(f"{len(folders)} runs do not fit one page; compare {len(LETTERS)} at most")
    return write_text_whole(Path(file), comparison_page([read_run(folder) for folder in folders]))


@contextmanager
def warn_of_errors(warn: Callable[[str], object], consequence: str) -> Iterator[None]:
    """Call `warn` with the reason if the block raises, and go on: a report that fails must not end a training."""
    try:
        yield
    except Exception as error:
        warn(f"{consequence}: {type(error).__name__}: {error}")
