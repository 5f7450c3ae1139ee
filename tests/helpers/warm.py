"""Python programs as processes of their own which need not import the libraries first: that takes five seconds each.

A server imports the libraries and nothing of this package, and runs every program in a fork of itself. So a program finds
what it finds in a new process, but for the time. What reads the environment while it is imported needs a true one.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

LIBRARIES = (
    "torch._dynamo",
    "torch.utils.flop_counter",
    "mmengine.hooks",
    "mmengine.runner",
    "mmengine.visualization",
    "datasets",
    "peft",
    "rich.console",
    "torchmetrics.image",
    "transformers.models.clip.modeling_clip",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
)


class WarmProcess:
    """As much of `subprocess.Popen` as tests use, with pipes for the text of stdout and stderr, and a session of its own."""

    cpu_seconds: ClassVar[float] = 0.0
    """The processor time of all programs that have been waited for, which are no children of this process."""

    def __init__(self, argv: list[str], cwd: Path, env: dict[str, str]):
        self.args, self.returncode, self._texts = argv, None, []
        (out, out_end), (err, err_end) = os.pipe(), os.pipe()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(start_server().socket)
        request = json.dumps(dict(argv=argv, cwd=str(cwd), env=env)).encode()
        socket.send_fds(self._server, [len(request).to_bytes(4, "big") + request], [out_end, err_end])
        for end in (out_end, err_end):
            os.close(end)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self.pid = int.from_bytes(self._server.recv(4), "big")

    def poll(self) -> int | None:
        """The exit status, negative where a signal ended the program; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float) -> int:
        """Wait for the program's end; raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                self.returncode, seconds = json.loads(self._server.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            WarmProcess.cpu_seconds += seconds
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What the program prints until its end; raises `subprocess.TimeoutExpired`."""
        if not self._texts:
            readers = ThreadPoolExecutor()
            self._texts = [readers.submit(pipe.read) for pipe in (self.stdout, self.stderr)]
            readers.shutdown(wait=False)
        self.wait(timeout)
        with self.stdout, self.stderr, self._server:
            return tuple(text.result() for text in self._texts)

    def kill(self) -> None:
        """Kill the program and what it has started."""
        os.killpg(self.pid, signal.SIGKILL)


@functools.cache
def start_server() -> SimpleNamespace:
    """Start the server, once; it ends with this process, since it waits at a pipe to its stdin as well."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name, "socket")
    command = [sys.executable, __file__, path]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env, start_new_session=True)
    while not path.exists():
        assert process.poll() is None, "the server could not import the libraries"
        time.sleep(0.05)
    return SimpleNamespace(folder=folder, process=process, socket=str(path))


def serve(path: str) -> dict:
    """Wait for requests; returns one, in the fork that has to run it."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".new")
        listener.listen()
        Path(path + ".new").rename(path)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if not os.fork():
                break
            client.close()
        else:
            sys.exit()  # who started the server has ended
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, ends, _, _ = socket.recv_fds(client, 1 << 16, 2)
    length = int.from_bytes(data[:4], "big")
    while len(data) < length + 4:
        data += client.recv(1 << 16)
    pid = os.fork()
    if not pid:
        client.close()
        os.setsid()
        for number, end in enumerate((os.open(os.devnull, os.O_RDONLY), *ends)):
            os.dup2(end, number)
            os.close(end)
        # Those of the server take what it had for files, where it had files, for good.
        sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
        return json.loads(data[4:])
    for end in ends:
        os.close(end)
    client.sendall(pid.to_bytes(4, "big"))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    client.sendall(json.dumps([status, sum(os.times()[2:4])]).encode())
    os._exit(0)


if __name__ == "__main__":
    request = serve(sys.argv[1])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    places = [str(Path(place).resolve()) for place in request["env"].get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:1] = [str(Path(sys.argv[0]).resolve().parent), *places]
    runpy.run_path(sys.argv[0], run_name="__main__")
