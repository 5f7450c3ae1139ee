"""Reading pictures: from files and from bytes, and which of a folder's can be read at all."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diffdistill.errors import InputError, warn_once

from .sources import first_line

NAMED = 10  # unreadable pictures that a warning names; it counts all


def upright_rgb(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it on white paper: turned by its EXIF tag, transparency filled with white, in RGB."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits per pixel, which `convert` would clip at 255 instead of scaling
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) // 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def picture_of(value: Mapping | bytes | str | Path, folder: Path = Path()) -> bytes | Path:
    """The bytes or file (relative to `folder`) of a picture, which in a row of the `datasets` library may be a dict."""
    if isinstance(value, Mapping):
        value = value["bytes"] or value["path"]
    return value if isinstance(value, bytes) else folder / value


def read_picture(value: Mapping | bytes | str | Path, folder: Path = Path()) -> Image.Image:
    """The picture of `picture_of`, upright and in RGB."""
    found = picture_of(value, folder)
    with Image.open(io.BytesIO(found) if isinstance(found, bytes) else found) as picture:
        return upright_rgb(picture)


def picture_files(folder: Path) -> list[Path]:
    """The files of `folder` (not of folders in it) that are named like pictures, by name."""
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    known |= {".heic", ".heif"}  # what phones write; Pillow cannot read it, and that should be said
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in known)


def readable(pictures: Sequence, names: Sequence[str], source: str) -> list[int]:
    """Indices of those `pictures` that `read_picture` can read, with a warning that counts and names the others.

    Raises InputError where none is left.
    """
    problems = [problem_of(picture) for picture in pictures]
    kept = [index for index, problem in enumerate(problems) if problem is None]
    broken = [f"{name} ({problem})" for name, problem in zip(names, problems, strict=True) if problem is not None]
    listed = "; ".join(broken[:NAMED]) + ("; ..." if len(broken) > NAMED else "")
    if not kept:
        raise InputError(f"{source}: none of the {len(pictures)} pictures can be read: {listed}")
    if broken:
        warn_once(f"{source}: {len(broken)} of {len(pictures)} pictures cannot be read and are left out: {listed}")
    return kept


def problem_of(picture: Mapping | bytes | str | Path) -> str | None:
    """Why `read_picture` cannot read it, or None."""
    try:
        read_picture(picture)
    except Exception as error:  # the decoders of broken files raise nearly anything
        empty = isinstance(picture, Path) and picture.stat().st_size == 0
        return "the file is empty" if empty else first_line(error).replace(str(picture), "the file")
    return None
