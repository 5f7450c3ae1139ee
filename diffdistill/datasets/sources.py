"""Open a table of pictures and captions with the Hugging Face `datasets` library, or say in one line why not."""

import os
from pathlib import Path

import datasets
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError

from diffdistill.errors import InputError
from diffdistill.files import disk_error, is_hub_name

READERS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}
UNREADABLE = (DatasetsError, OSError, RuntimeError, ValueError)  # runtime errors: loading scripts, which nobody runs
PACKAGED = "diffdistill::"


def local_path(source: str) -> Path:
    """Where `source` is if it is on this disk; `diffdistill::star_pictures` is a folder of this package."""
    if source.startswith(PACKAGED):
        return Path(__file__).parent.parent / "assets" / source.removeprefix(PACKAGED)
    return Path(source).expanduser()


def open_source(source: str, split: str) -> datasets.Dataset:
    """Rows of a file, a folder, a folder written by `Dataset.save_to_disk`, or a data set on the Hugging Face Hub.

    A single `Dataset` saved to disk has no splits, and `split` is not looked at.

    Raises:
        InputError: there is no such source, it is empty, it cannot be parsed, or it has no such split.
    """
    path = local_path(source)
    if path.is_file():
        if path.stat().st_size == 0:
            raise InputError(f"{source}: the file is empty")
        if path.suffix not in READERS:
            raise InputError(f"{source}: a file of {' / '.join(READERS)}, a folder, or a name on the Hub is needed")
        return _load(source, READERS[path.suffix], split=split, data_files=str(path))
    if path.is_dir():
        return _open_folder(source, path, split)
    if is_hub_name(source) or is_hub_name(f"datasets/{source}"):  # some of the oldest have no owner
        return _open_hub(source, split)
    raise InputError(f"{source}: no such file or folder")


def _open_folder(source: str, path: Path, split: str) -> datasets.Dataset:
    if not any(path.iterdir()):
        raise InputError(f"{source}: the folder is empty")
    if not any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        return _load(source, str(path), split=split)
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


def _open_hub(source: str, split: str) -> datasets.Dataset:
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
        return _load(source, source, split=split)
    except InputError as error:
        if not trouble:
            raise
        local = "the `source` of the data set may be the folder of a local copy"
        raise InputError(f"{source}: no such folder here, and {trouble}; {local}") from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def _load(source: str, *arguments, **options) -> datasets.Dataset:
    try:
        return datasets.load_dataset(*arguments, **options)
    except UNREADABLE as error:
        cause = error.__cause__ or error
        if described := trouble_of_cache(cause):
            raise InputError(f"{source}: {described}") from error
        raise InputError(f"{source}: cannot be read: {first_line(cause)}") from error


def trouble_of_cache(error: BaseException | None) -> str | None:
    """Says that the libraries cannot write their cache, if that is what `error` comes from; None otherwise."""
    home = Path(constants.HF_HOME)
    while error is not None:
        file = getattr(error, "filename", None)
        if disk_error(error) and (file is None or home in Path(str(file)).parents or Path(str(file)) == home):
            reason = os.strerror(disk_error(error))
            return f"the cache in {home} cannot be written ({reason}); set HF_HOME to a folder that can be"
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """What the error says, cut to one line; its class name where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
