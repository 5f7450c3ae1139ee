"""Stopping a run from outside: a signal asks for it, and the run ends where it can go on from."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from diffdistill.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C; what ends a job; what SLURM sends before it does so
WORKER_GRACE = 60  # seconds


class StopRequest:
    """Whether somebody has asked this process to stop: by a signal, or by ending the `mim` that had started it.

    While `waits` is set, the run looks at `asked` between its updates, and saves before it ends; a second Ctrl-C does not
    wait. Otherwise a signal ends what is going on at once.
    """

    def __init__(self):
        self.waits, self.listens, self.signal, self.launcher = False, False, "", None

    @property
    def asked(self) -> str:
        """The name of the signal that has arrived; empty where nothing has."""
        if not self.signal and self.launcher:
            process, mim = self.launcher
            if parent_of(process) != mim:  # which has ended, though its number may still be there
                self.signal = "the end of mim"
        return self.signal

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Inside the block, this takes the signals; only the main thread of a process can. Blocks inside change nothing."""
        if self.listens or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.waits, self.listens, self.signal, self.launcher = False, True, "", find_mim()
        before = {number: signal.signal(number, self.take) for number in SIGNALS}
        try:
            yield
        finally:
            self.waits = self.listens = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        name = signal.Signals(number).name
        again = number == signal.SIGINT and self.signal
        if not self.waits or again:
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(f"stopped by {name}")
        self.signal = name
        os.write(2, f"\n{name}: the run saves a checkpoint after this update and stops; Ctrl-C stops it at once\n".encode())


stop_request = StopRequest()  # one, as signals go to the process


def protected(start: Callable[[int], None] | None, worker: int) -> None:
    """Start a loader's worker by `start`, so that a signal to all processes of a run lets it live until the run has stopped.

    A SIGTERM ends it a minute later, as the parent sends one to a worker that does not end by itself.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(WORKER_GRACE))
    if start is not None:
        start(worker)


def find_mim() -> tuple[int, int] | None:
    """The process of `mim` that has started this one, after the one that it started itself; None where there is none.

    mim hands no signal on, and would leave this process behind.
    """
    process = os.getpid()
    while parent := parent_of(process):
        words = read(f"/proc/{parent}/cmdline").split(b"\0")
        if any(Path(os.fsdecode(word)).name == "mim" for word in words[:2]):
            return process, parent
        process = parent
    return None


def parent_of(process: int) -> int | None:
    """The process that has started `process`, or has taken it over; None of the first, or where the system does not say."""
    words = read(f"/proc/{process}/stat").rpartition(b")")[2].split()
    return int(words[1]) or None if len(words) > 1 else None


def read(file: str) -> bytes:
    """What the system says in a file of /proc; nothing where that is not there, or not for us."""
    try:
        return Path(file).read_bytes()
    except OSError:
        return b""
