"""Disks that are full or read-only, and kills between any two operations on files."""

import contextlib
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

KILLED = 253  # a status that is the number of no error
TOUCHES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree")


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A disk of that size at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=False, stderr=subprocess.DEVNULL
    )
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def make_read_only(disk: Path) -> None:
    """Let nothing more be written to the disk of `small_disk`."""
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def killed_before_each(action: Callable[[], object]) -> Iterator[int]:
    """Do `action` in a process that is killed before its 1st, 2nd, ... operation on files, and at last not at all.

    Yields the number of the operation after each kill, so that the caller can look at what is left.
    """
    for number in itertools.count(1):
        code = in_a_process(lambda number=number: (kill_before(number), action()))
        assert code in (None, KILLED), f"the action failed before its operation {number}"
        yield number
        if code is None:
            return


def kill_before(number: int) -> None:
    """End this process, as a kill would, before its operation `number` on files."""
    seen = 0

    def count(event: str, _) -> None:
        nonlocal seen
        seen += event in TOUCHES
        if seen == number:
            os._exit(KILLED)

    sys.addaudithook(count)


def with_largest_file(size: int, action: Callable[[], object]) -> int | None:
    """Do `action` in a process that can write no file above `size` bytes; returns the number of the OSError it ends in."""
    return in_a_process(lambda: (resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)), action()))


def in_a_process(action: Callable[[], object]) -> int | None:
    """Do `action` in a fork; returns the number of the OSError that it raises, 254 for any other error, None for none."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or None
    code = 254
    try:
        action()
        code = 0
    except OSError as error:
        code = error.errno or code
    finally:
        os._exit(code)
