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
    with damage_in_one_line(folder):
        run = read_run(folder)
        page = run_page(run)
    return write_text_whole(Path(file or run.folder / "report.html"), page)


def write_comparison(folders: Sequence[str], file: str | Path) -> Path:
    """Write one page that compares the runs in `folders`, 26 at most. Raises InputError for a folder without a run."""
    if len(folders) > len(LETTERS):
        raise InputError(f"{len(folders)} runs do not fit one page; compare {len(LETTERS)} at most")
    runs = []
    for folder in folders:
        with damage_in_one_line(folder):
            runs.append(read_run(folder))
            run_page(runs[-1])
    return write_text_whole(Path(file), comparison_page(runs))


@contextmanager
def damage_in_one_line(folder: str | Path) -> Iterator[None]:
    """Turn what the block raises over values that no run writes, such as a text for a number, into an InputError."""
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{folder}: results.json, report.json or a log there is damaged ({type(error).__name__}: {error}); resume the"
            " run, which writes them again, or remove the damaged one"
        ) from error


@contextmanager
def warn_of_errors(warn: Callable[[str], object], consequence: str) -> Iterator[None]:
    """Call `warn` with the reason if the block raises, and go on: a report that fails must not end a training."""
    try:
        yield
    except Exception as error:
        warn(f"{consequence}: {type(error).__name__}: {error}")
