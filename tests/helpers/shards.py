"""Tar files as img2dataset writes them, and a server that hands them out."""

import contextlib
import functools
import io
import json
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(number: int, width: int = 16, height: int = 12) -> bytes:
    """A picture of its own for every number."""
    values = np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "JPEG")
    return out.getvalue()


def sample(number: int, **said) -> dict[str, bytes]:
    """The members of a sample, kind -> content. `said` is what its .json says beside an aesthetic score of number / 10."""
    about = dict(key=f"{number:09d}", caption=f"said of {number}", aesthetic=number / 10, width=16, height=12) | said
    return {"jpg": jpeg(number), "txt": f"picture {number}".encode(), "json": json.dumps(about).encode()}


def write_shard(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> Path:
    """Write a tar file of samples, name -> members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, members in samples.items():
            for kind, content in members.items():
                info = tarfile.TarInfo(f"{name}.{kind}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_shards(folder: Path, sizes: Iterable[int]) -> Path:
    """Write tar files 00000.tar, 00001.tar, ... of so many samples each, numbered through."""
    number = 0
    for shard, size in enumerate(sizes):
        write_shard(folder / f"{shard:05d}.tar", {f"{each:09d}": sample(each) for each in range(number, number + size)})
        number += size
    return folder


class InParts(SimpleHTTPRequestHandler):
    """Gives files as a whole, and where it is asked for them parts of files, as most servers do."""

    gives_parts = True

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        path = Path(self.translate_path(self.path))
        if not (self.gives_parts and asked and path.is_file()):
            super().do_GET()
            return
        first, last = asked.removeprefix("bytes=").split("-")
        content = path.read_bytes()
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self) -> None:
        if self.gives_parts:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_) -> None:
        """Say nothing."""


class AsAWhole(InParts):
    """Knows no parts of files, as Python's own server."""

    gives_parts = False


@contextlib.contextmanager
def serve(folder: Path, handler: type = InParts) -> Iterator[str]:
    """Inside the block, the files of `folder` are behind the address that it yields."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
