"""Reading pictures: from files and from bytes, and which of a folder's can be read at all."""

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import datasets
import huggingface_hub
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from diffdistill.errors import shortened

from .shards import read_member
from .skipping import BadSampleError
from .sources import first_line


def upright_rgb(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it on white paper: turned by its EXIF tag, transparency filled with white, in RGB.

    Of several frames it is the first. Raises ValueError for values that are no picture.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):  # more than 8 bits a pixel, which `convert` would clip instead of scaling
        picture = Image.fromarray(eight_bits(np.asarray(picture)))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values as uint8. Their range is the smallest usual one that holds them: 0 to 1 (floats), 255 or 65535.

    Files do not say which it is. Raises ValueError where none of the three holds them.
    """
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535):  # NaN is neither
        raise ValueError(f"its values go from {low:g} to {high:g}; 0 to 1, 0 to 255 or 0 to 65535 can be read")
    top = 1 if values.dtype.kind == "f" and high <= 1 else 255 if high <= 255 else 65535
    return np.round(values.astype(np.float64) * (255 / top)).astype(np.uint8)


def picture_of(value: Mapping | bytes | str | Path, folder: Path | None) -> bytes | Path:
    """The bytes or file of a picture, from a row of the `datasets` library or from the listing of a folder.

    Files that a table names are those below `folder` of the table, and by absolute paths those of this machine. With None
    the table is from the Hub: it may name files that were downloaded with it. Nothing is fetched.

    Raises:
        ValueError: the row names no picture, or one from elsewhere.
    """
    if isinstance(value, Mapping) and "offset" in value:  # a member of a tar file
        return read_member(value)
    if isinstance(value, Mapping):  # how `datasets` stores a picture
        value = value["bytes"] or value["path"]
    if isinstance(value, bytes | Path):
        return value
    if not value:
        raise ValueError("the row names no picture")
    if "://" in value:
        raise ValueError("it is an address, and nothing is fetched: download the picture and give its path")
    if folder is None:
        path = Path(os.path.normpath(value))
        if not path.is_absolute() or not any(path.is_relative_to(cache) for cache in download_folders()):
            raise ValueError("a data set of the Hub names a file that is no part of it")
        return path
    path = Path(os.path.normpath(folder / value))  # as text: links are followed, since large sets are linked into place
    if ".." in Path(value).parts and not path.is_relative_to(os.path.normpath(folder)):
        raise ValueError("its path leads out of the folder of the data set: give an absolute path, or move it there")
    return path


def download_folders() -> tuple[Path, ...]:
    """Where the libraries keep what they have downloaded."""
    config = datasets.config
    known = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, huggingface_hub.constants.HF_HUB_CACHE)
    return tuple(Path(os.path.normpath(folder)) for folder in known)


def open_picture(value: Mapping | bytes | str | Path | BinaryIO, folder: Path | None = None) -> Image.Image:
    """The picture of `picture_of`, or of an open file, with its header read alone; any exception where there is none."""
    found = value if hasattr(value, "read") else picture_of(value, folder)
    if isinstance(found, Path):
        if not found.is_file():  # opening a named pipe would wait for ever
            raise FileNotFoundError("there is no such file")
        if not found.stat().st_size:
            raise ValueError("the file is empty")
    Image.init()
    kinds = [kind for kind in Image.ID if kind != "EPS"]  # a program, which Pillow would have Ghostscript run
    return Image.open(io.BytesIO(found) if isinstance(found, bytes) else found, formats=kinds)


def read_picture(
    value: Mapping | bytes | str | Path, folder: Path | None = None, max_pixels: int | None = None
) -> Image.Image:
    """The picture of `picture_of`, upright and in RGB; any exception where there is none of up to `max_pixels`."""
    with open_picture(value, folder) as picture:
        if max_pixels and picture.width * picture.height > max_pixels:
            raise ValueError(f"it has {picture.width:,} x {picture.height:,} pixels, more than max_pixels={max_pixels:,}")
        return upright_rgb(picture)


def header_size(value: Mapping | bytes | str | Path | BinaryIO, folder: Path | None = None) -> tuple[int, int]:
    """(height, width) that the picture of `read_picture` would have, from its header; (0, 0) where that cannot be read.

    An EXIF tag behind the pixels of a PNG, where hardly any program puts it, is not seen: nothing is decoded.
    """
    try:
        with open_picture(value, folder) as picture:
            turned = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1) > 4
            return picture.size if turned else picture.size[::-1]
    except Exception:  # what is wrong with it is said when it is read
        return 0, 0


def reason_of(error: Exception) -> str:
    """Why `read_picture` has raised `error`, as one line without the picture's name."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture of a kind that can be read"
    return shortened(first_line(error), 200)


def picture_files(folder: Path) -> list[Path]:
    """The files of `folder` (not of folders in it) that are named like pictures, by name."""
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    known |= {".heic", ".heif"}  # what phones write; Pillow cannot read it, and that should be said
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in known)


def problem_of(source: str, row: int, value: Mapping | bytes | str | Path, folder: Path | None) -> BadSampleError | None:
    """Why `read_picture` cannot read the picture `value` of that `row` of `source`; None where it can."""
    try:
        read_picture(value, folder)
    except Exception as error:  # the decoders of broken files raise nearly anything
        file = value.name if isinstance(value, Path) else value if isinstance(value, str) else None
        return BadSampleError(source, row, file, reason_of(error))
    return None
