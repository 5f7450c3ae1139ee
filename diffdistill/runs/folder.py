"""The folder of a run: one training at a time, and the checkpoint that it goes on from."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmengine.dist import is_main_process

from diffdistill.config.check import check_checkpoint
from diffdistill.errors import InputError, warn_once
from diffdistill.files import finish_all_writing

LOCK = ".lock"


@contextmanager
def locked(work_dir: str) -> Iterator[None]:
    """Inside the block no other run can train in `work_dir`; raises InputError where one does.

    Of several ranks the first holds the lock. The system lets go of it when the process ends, however it ends. The file goes
    with the block.
    """
    if not is_main_process():
        yield
        return
    folder = Path(work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / LOCK, f"--work-dir={work_dir}", "trains there"):
        finish_all_writing(folder)  # what a run that was killed has left half done
        yield


@contextmanager
def held(file: Path, where: str, does: str) -> Iterator[None]:
    """Inside the block this process alone holds the lock `file`; raises InputError where another one does.

    The message calls the folder `where`, and says what its holder `does`.
    """
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(lock.fileno()).st_nlink:  # its holder has removed it since it was opened
                raise BlockingIOError(errno.EAGAIN, "locked a moment ago")
        except BlockingIOError:
            raise InputError(f"{where}: {holder(file)} {does}; wait for it, or choose another") from None
        except OSError as error:  # a file system without locks
            warn_once(f"{file.parent} cannot be locked ({error.strerror}): do not start two runs in it")
        lock.truncate(0)
        lock.write(json.dumps(dict(pid=os.getpid(), host=socket.gethostname())))
        lock.flush()
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def holder(lock: Path) -> str:
    """Who holds a lock, as its file says it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        owner = json.loads(lock.read_text())
        return f"process {int(owner['pid'])} on {owner['host']}"
    return "another process"


def last_checkpoint(work_dir: str) -> str | None:
    """The last whole checkpoint of the run in `work_dir`, wherever that folder has been moved to; None where it has none.

    A damaged one is passed over with a warning. Raises InputError where all of them are.
    """
    found = noted_and_others(Path(work_dir))
    damaged = []
    for file in found:
        try:
            check_checkpoint(str(file), None)
        except InputError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warn_once(f"{damaged[0]}; the run goes on from {file.name}, the one before")
        return str(file)
    if damaged:
        raise InputError(f"{damaged[0]}, and there is no other; start anew without --resume")
    return None


def noted_and_others(folder: Path) -> list[Path]:
    """The checkpoint that the run's `last_checkpoint` names, here or else where it says, and then others, the latest first.

    Empty where there is no such note, or where what it names is not there and there are no others.
    """
    note = folder / "last_checkpoint"
    if not note.exists():
        return []
    noted = Path(note.read_text(errors="replace").strip())
    if (folder / noted.name).exists() or not noted.exists():  # a run that was moved, or copied beside the one it is of
        noted = folder / noted.name
    others = [path for path in noted.parent.glob("iter_*") if step_of(path) is not None and path != noted]
    return [noted, *sorted(others, key=step_of, reverse=True)]


def step_of(checkpoint: Path) -> int | None:
    """N of `iter_<N>.pth` or `iter_<N>`; None of any other name."""
    number = checkpoint.name.removeprefix("iter_").removesuffix(".pth")
    return int(number) if number.isdigit() else None


def how_to_resume(work_dir: str) -> str:
    """Says how the run in `work_dir` goes on: from which checkpoint, or that it has none."""
    with suppress(InputError):
        if last := last_checkpoint(work_dir):
            return f"the same command with --resume goes on from {last}"
    return "there is no checkpoint yet"
