"""Files and folders: writing them whole or not at all, and finding out early that they cannot be written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from diffdistill.errors import InputError


def write_whole(write: Callable[[Path], object], folder: Path) -> Path:
    """`write(folder)` by way of a folder beside it: an interrupted write leaves nothing half-written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    shutil.rmtree(folder, ignore_errors=True)
    return partial.rename(folder)


def save_whole(model, folder: Path) -> Path:
    """`model.save_pretrained(folder)`, whole or not at all."""
    return write_whole(model.save_pretrained, folder)


def write_text_whole(file: Path, text: str) -> Path:
    """Write `text` to `file` by way of a file beside it."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(file)


def check_folder(folder: str, option: str) -> None:
    """Raise InputError unless `folder`, given as `option`, can be written; it is not created."""
    found = Path(folder).absolute()
    while not found.exists():
        found = found.parent
    try:
        with TemporaryFile(dir=found):  # permissions alone do not tell: root has them all, also on a read-only disk
            pass
    except OSError as error:
        raise InputError(f"{option}={folder}: {found}: {error.strerror}; choose a folder that can be written") from None


def check_file(file: str, option: str) -> None:
    """Raise InputError unless a file `file`, given as `option`, can be written."""
    if not Path(file).parent.is_dir() or Path(file).is_dir():
        raise InputError(f"{option}={file}: name a file in a folder that exists")
