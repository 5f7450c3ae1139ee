"""Files and folders: writing them whole or not at all, and finding out early that they cannot be written."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from diffdistill.errors import InputError

LONGEST_NAME = 255
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
NO_HUB_NAMES = (".py", ".parquet", ".jsonl", ".csv", ".txt", ".safetensors", ".pth")  # files that are not there


def write_whole(write: Callable[[Path], object], folder: Path) -> Path:
    """Call `write` with a folder beside `folder`, then rename it: an interrupted write leaves nothing half-written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    shutil.rmtree(folder, ignore_errors=True)
    return partial.rename(folder)


def save_whole(model, folder: Path) -> Path:
    """Call `model.save_pretrained` so that `folder` is written whole or not at all; returns the folder."""
    return write_whole(model.save_pretrained, folder)


def write_text_whole(file: Path, text: str) -> Path:
    """Write `text` to `file`, whole or not at all, by way of a file beside it; returns the file."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    return partial.replace(file)


def check_folder(folder: str, option: str) -> None:
    """Raise InputError unless `folder`, given as `option`, can be written; it is not created."""
    found = Path(folder).absolute()
    if (longest := max(len(os.fsencode(part)) for part in found.parts)) > LONGEST_NAME:
        raise InputError(f"{option}={folder[:60]}...: a name of {longest} bytes; file systems take {LONGEST_NAME} at most")
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


def is_hub_name(name: str) -> bool:
    """Whether `name` is that of a repository on the Hugging Face hub, OWNER/NAME, and no file or folder here."""
    return bool(HUB_NAME.fullmatch(name)) and Path(name).suffix not in NO_HUB_NAMES and not Path(name).exists()


def read_lines(file: str | Path, key: str) -> list[str]:
    """The lines of a UTF-8 text file, stripped, without those that are empty.

    Raises InputError, naming the `key` that holds the file, where it cannot be read or has no line.
    """
    try:
        lines = [line.strip() for line in Path(file).expanduser().read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{key}={file} cannot be read ({type(error).__name__}); give a UTF-8 text file") from None
    if not any(lines):
        raise InputError(f"{key}={file} is empty; write one a line")
    return [line for line in lines if line]
