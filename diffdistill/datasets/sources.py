"""Open a table of pictures and captions with the Hugging Face `datasets` library, or say in one line why not."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pandas
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from diffdistill.errors import InputError, causes, shortened
from diffdistill.files import disk_error, is_hub_name

READERS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}
UNREADABLE = (DatasetsError, OSError, RuntimeError, ValueError)  # runtime errors: loading scripts, which nobody runs
PACKAGED = "diffdistill::"
# Pandas takes words such as "None", "NA" and "null" for missing values; in a caption they are words.
WORDS_STAY_WORDS = dict(keep_default_na=False, na_values=[""])


def local_path(source: str) -> Path:
    """Where `source` is if it is on this disk; `diffdistill::star_pictures` is a folder of this package."""
    if source.startswith(PACKAGED):
        return Path(__file__).parent.parent / "assets" / source.removeprefix(PACKAGED)
    return Path(source).expanduser()


def picture_folder(source: str) -> Path | None:
    """The folder to which paths of pictures in the table `source` are relative; None for a data set of the Hub."""
    path = local_path(source)
    if not path.exists():
        return None
    return path.parent if path.is_file() else path


def open_source(source: str, split: str, streaming: bool = False) -> datasets.Dataset | datasets.IterableDataset:
    """Rows of a file, a folder, a folder written by `Dataset.save_to_disk`, or a data set on the Hugging Face Hub.

    A single `Dataset` saved to disk has no splits, and `split` is not looked at; it cannot be streamed. What is streamed is
    neither downloaded nor cached.

    Raises:
        InputError: there is no such source, it is empty, it cannot be parsed, or it has no such split.
    """
    path = local_path(source)
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{source}: the file is empty")
        if path.suffix not in READERS:
            raise InputError(f"{source}: a file of {' / '.join(READERS)}, a folder, or a name on the Hub is needed")
        options = WORDS_STAY_WORDS if path.suffix == ".csv" else {}  # named, so that they are part of the cache's key
        return _load(source, READERS[path.suffix], split=split, streaming=streaming, data_files=str(path), **options)
    if path.is_dir():
        return _open_folder(source, path, split, streaming)
    if is_hub_name(source) or is_hub_name(f"datasets/{source}"):  # some of the oldest have no owner
        return _open_hub(source, split, streaming)
    raise InputError(f"{source}: no such file or folder")


def _open_folder(source: str, path: Path, split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    if not any(path.iterdir()):
        raise InputError(f"{source}: the folder is empty")
    if not any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        return _load(source, str(path), split=split, streaming=streaming)
    if streaming:
        raise InputError(f"{source}: a folder of save_to_disk is not streamed; use type='CaptionedImages'")
    try:
        rows = datasets.load_from_disk(str(path))
    except IndexError as error:  # what it raises for a table without rows
        raise InputError(f"{source}: there are no rows") from error
    except UNREADABLE as error:
        raise InputError(f"{source}: cannot be read: {first_line(error)}") from error
    if isinstance(rows, datasets.Dataset):
        return rows
    if split not in rows:
        raise InputError(f"{source}: no split {split!r}; set split to one of {', '.join(rows)}")
    return rows[split]


def _open_hub(source: str, split: str, streaming: bool) -> datasets.Dataset | datasets.IterableDataset:
    """Download once, then read the cache. Without a network, `datasets` alone would retry for half a minute to two."""
    offline, trouble = datasets.config.HF_HUB_OFFLINE, None
    try:
        HfApi().dataset_info(source, timeout=10)
    except RepositoryNotFoundError:
        trouble = "the Hugging Face Hub has no such data set that you may read"
    except Exception as error:  # the HTTP libraries under the hub client have no error class in common
        trouble = f"the Hugging Face Hub cannot be reached ({type(error).__name__})"
    try:
        datasets.config.HF_HUB_OFFLINE = offline or trouble is not None  # go straight to what an earlier run has cached
        return _load(source, source, split=split, streaming=streaming)
    except InputError as error:
        if not trouble:
            raise
        local = "the `source` of the data set may be the folder of a local copy"
        raise InputError(f"{source}: no such folder here, and {trouble}; {local}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def _load(source: str, *arguments, streaming: bool, **options) -> datasets.Dataset | datasets.IterableDataset:
    try:
        with _words_stay_words():
            rows = datasets.load_dataset(*arguments, streaming=streaming, **options)
    except UNREADABLE as error:
        cause = error.__cause__ or error
        if described := trouble_of_cache(cause):
            raise InputError(f"{source}: {described}") from error
        raise InputError(f"{source}: cannot be read: {shortened(first_line(cause), 300)}") from error
    if not streaming and not len(rows):
        raise InputError(f"{source}: there are no rows")
    return rows


@contextmanager
def _words_stay_words() -> Iterator[None]:
    """Read CSV so inside the block: `datasets` reads the `metadata.csv` of a folder without options to pass on."""
    read = pandas.read_csv
    pandas.read_csv = functools.partial(read, **WORDS_STAY_WORDS)
    try:
        yield
    finally:
        pandas.read_csv = read


def trouble_of_cache(error: BaseException | None) -> str | None:
    """Says that the libraries cannot write their cache, if that is what `error` comes from; None otherwise."""
    home = Path(constants.HF_HOME)
    for each in causes(error):
        file = getattr(each, "filename", None)
        if disk_error(each) and (file is None or home in Path(str(file)).parents or Path(str(file)) == home):
            reason = os.strerror(disk_error(each))
            return f"the cache in {home} cannot be written ({reason}); set HF_HOME to a folder that can be"
    return None


def first_line(error: BaseException) -> str:
    """What the error says, cut to one line; its class name where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
