"""Runs a program and kills it at one of its file operations: killing.py FOLDER MOMENT DELAY LOG PROGRAM ARGS.

A file operation creates, writes, renames or removes something in FOLDER, as Python's audit events tell it. Before the one
with the number MOMENT, or DELAY seconds later, the process gets SIGKILL; LOG then holds what that operation was. MOMENT -1
kills nothing, and LOG holds all of them.
"""

import os
import runpy
import signal
import sys
import threading
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.copytree"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(folder: str, moment: int, delay: float, log: int) -> None:
    """Count the file operations in `folder` from now on, and kill this process at number `moment`."""
    seen = -1

    def look(event: str, args: tuple) -> None:
        nonlocal seen
        if event not in CHANGES and not (event == "open" and args[2] and args[2] & WRITES):
            return
        path = os.fspath(args[0]) if isinstance(args[0], (str, os.PathLike)) else ""
        if not path.startswith(folder):
            return
        seen += 1
        if moment in (-1, seen):
            target = f" -> {os.path.relpath(args[1], folder)}" if event == "os.rename" else ""
            os.write(log, f"{event} {os.path.relpath(path, folder)}{target}\n".encode())
        if seen == moment and delay:
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        elif seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


if __name__ == "__main__":
    folder, moment, delay, log = sys.argv[1:5]
    sys.argv = sys.argv[5:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    watch(folder, int(moment), float(delay), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666))
    runpy.run_path(sys.argv[0], run_name="__main__")
