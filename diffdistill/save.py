"""Writing a model whole or not at all."""

import shutil
from pathlib import Path


def save_whole(model, folder: Path) -> Path:
    """`model.save_pretrained(folder)` by way of a folder beside it: an interrupted save leaves nothing half-written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    return partial.rename(folder)
