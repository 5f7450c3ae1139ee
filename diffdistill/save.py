"""Writing models and files whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path


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
