"""Files and folders: writing them whole or not at all, and finding out early that they cannot be written."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from diffdistill.errors import InputError, causes

LONGEST_NAME = 255  # bytes; of common file systems
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
NO_HUB_NAMES = (".py", ".parquet", ".jsonl", ".csv", ".txt", ".safetensors", ".pth")  # files that are not there
ALLOW_PICKLES = "DIFFDISTILL_ALLOW_PICKLES"  # no key of a config: a config may be a stranger's, too
LEFTOVER = re.compile(r"\.(.+)\.(partial|old)")
LARGEST_JSON = 64 * 2**20  # bytes; the index of a model's shards has a few hundred thousand
# What ails a disk and not this program, and what to do about it.
FULL, CLOSED = "free space there, or choose another disk", "choose a place that can be read and written"
DISK_ERRORS = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: "the system sets a limit to files; raise it (ulimit -f), or choose another disk",
    errno.EROFS: CLOSED,
    errno.EACCES: CLOSED,
    errno.EPERM: CLOSED,
    errno.EIO: "the disk fails; choose another",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def write_whole(write: Callable[[Path], object], folder: Path) -> Path:
    """Call `write` with a folder beside `folder`, which then takes its place; returns `folder`.

    Whatever stops it, a power cut included, leaves the old folder or the new one, whole. Between two renames neither has
    the name yet: `finish_writing`, which whoever writes next calls, brings the new one there. An error leaves the old
    folder and nothing beside it; one of the disk is raised as an OSError that names `folder`.
    """
    target = folder.resolve()  # of a link, what it leads to
    partial, old = beside(target, "partial"), beside(target, "old")
    with removed_after_errors(partial, folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        finish_writing(target)
        write(partial)
        for path in (*partial.rglob("*"), partial):
            sync(path)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    sync(target.parent)
    remove(old)
    return folder


def finish_writing(folder: Path) -> None:
    """Bring to its end, or undo, what a `write_whole` of `folder` that was stopped has left beside it."""
    partial, old = beside(folder, "partial"), beside(folder, "old")
    if old.exists() and not folder.exists():  # stopped between the renames: the new one is whole, and the old one as well
        with suppress(FileNotFoundError):  # another rank has done it
            (partial if partial.exists() else old).rename(folder)
    remove(old)
    remove(partial)


def finish_all_writing(folder: Path) -> None:
    """`finish_writing` of every file and folder in `folder`. Nothing else may be writing there."""
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if match := LEFTOVER.fullmatch(path.name):
            finish_writing(folder / match[1])


def write_file_whole(write: Callable[[Path], object], file: Path) -> Path:
    """Call `write` with a file beside `file`, then rename it: `file` is the old one or the new one; returns `file`.

    An error leaves nothing beside it; one of the disk is raised as an OSError that names `file`. What is there and no
    file, such as /dev/stdout, is written to as it is.
    """
    if file.exists() and not file.is_file():
        write(file)
        return file
    target = file.resolve()
    partial = beside(target, "partial")
    with removed_after_errors(partial, file):
        write(partial)
        sync(partial)
        partial.replace(target)
    return file


def write_text_whole(file: Path, text: str) -> Path:
    """Write `text` to `file`, whole or not at all, by way of a file beside it; returns the file."""
    return write_file_whole(lambda partial: partial.write_text(text, encoding="utf-8"), file)


def save_whole(model, folder: Path) -> Path:
    """Call `model.save_pretrained` so that `folder` is written whole or not at all; returns the folder."""
    return write_whole(model.save_pretrained, folder)


def beside(path: Path, kind: str) -> Path:
    """The hidden name beside `path` of what is not yet ("partial") or no longer ("old") there."""
    return path.with_name(f".{path.name}.{kind}")


def remove(path: Path) -> None:
    """Remove a file, or a folder and all that is in it; nothing happens where it is not there, or cannot be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a rename alone may reach it before what it renames."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that cannot
            raise
    finally:
        os.close(descriptor)


@contextmanager
def removed_after_errors(partial: Path, target: Path) -> Iterator[None]:
    """Remove `partial` where the block raises. An error of the disk becomes an OSError that names `target`."""
    try:
        yield
    except BaseException as error:
        remove(partial)
        if number := disk_error(error):
            raise OSError(number, os.strerror(number), str(target)) from error
        raise


def disk_error(error: BaseException | None) -> int | None:
    """The number of the error of the disk that `error` is, or that a library made it from; None for any other error."""
    for each in causes(error):  # torch raises a RuntimeError over that of the file it writes to
        number = each.errno if isinstance(each, OSError) else None
        if found := re.search(r"\(os error (\d+)\)", str(each)):  # safetensors raises its own, from Rust's text
            number = int(found[1])
        if number in DISK_ERRORS:
            return number
    return None


def describe_disk_error(error: BaseException) -> str | None:
    """An error of the disk in one line, with what to do about it; None for any other error."""
    number = disk_error(error)
    return number and f"{getattr(error, 'filename', None) or 'the disk'}: {os.strerror(number)}; {DISK_ERRORS[number]}"


def read_json(file: Path, name: str | None = None) -> dict:
    """The dict in a JSON file; {} where there is no such file.

    Raises InputError for a file that holds anything else, or more than 64 MiB; it calls the file `name`.
    """
    name = name or str(file)
    try:
        if not file.exists():
            return {}
        if file.stat().st_size > LARGEST_JSON:
            raise InputError(f"{name} is larger than {LARGEST_JSON >> 20} MiB; no such file is")
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError) or disk_error(error):
            raise
        raise InputError(f"{name} is damaged: no valid JSON ({type(error).__name__}); get or make it again") from None
    if not isinstance(content, dict):
        raise InputError(f"{name} is damaged: a {type(content).__name__} and no dict; get or make it again")
    return content


def check_folder(folder: str, option: str, given: str | None = None) -> None:
    """Raise InputError unless `folder`, of what was `given` as `option`, can be written; it is not created."""
    found = Path(folder).absolute()
    try:
        while not found.exists():
            found = found.parent
        with TemporaryFile(dir=found):  # permissions alone do not tell: root has them all, also on a read-only disk
            pass
    except OSError as error:
        raise InputError(
            f"{option}={given or folder}: {found}: {error.strerror}; choose a folder that can be written"
        ) from None


def check_new_folder(folder: str, option: str) -> None:
    """Raise InputError unless `folder`, given as `option`, can be written and is not there yet, or empty."""
    check_folder(folder, option)
    if Path(folder).exists() and any(Path(folder).iterdir()):
        raise InputError(f"{folder} is not empty; name a new folder")


def check_file(file: str, option: str) -> None:
    """Raise InputError unless a file `file`, given as `option`, can be written."""
    if not Path(file).parent.is_dir() or Path(file).is_dir():
        raise InputError(f"{option}={file}: name a file in a folder that exists")
    if not Path(file).exists() or Path(file).is_file():
        check_folder(str(Path(file).parent), option, file)


def check_no_pickle(file: str | Path, key: str) -> None:
    """Raise InputError for `file`, named by `key`, because it is a pickle, unless the environment allows these."""
    if not pickles_allowed():
        raise InputError(
            f"{key}: {Path(file).name} is a pickle, which can run code when it is read; get it as safetensors, or set"
            f" {ALLOW_PICKLES}=1 if you trust who made it"
        )


def pickles_allowed() -> bool:
    """Whether who started this process has allowed pickles of others to be read."""
    return os.environ.get(ALLOW_PICKLES) == "1"


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
