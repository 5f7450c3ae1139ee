"""Pictures for metrics: from records and from folders, as uint8 (H, W, 3)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diffdistill.datasets.pictures import upright_rgb
from diffdistill.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def resized(picture: np.ndarray | Image.Image, side: int | None) -> np.ndarray:
    """The picture squeezed to a square of `side` pixels with Pillow's bicubic filter; as it is for None."""
    if side is not None:
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def to_batch(pictures: Iterable[np.ndarray]) -> Tensor:
    """Pictures of one size as uint8 (B, 3, H, W)."""
    return torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2)


def picture_files(folder: str, key: str) -> list[Path]:
    """The pictures below `folder`, sorted. Raises InputError where there are none."""
    root = Path(folder).expanduser()
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES) if root.is_dir() else []
    if not files:
        raise InputError(f"{key}={folder}: no folder with pictures ({', '.join(SUFFIXES)})")
    return files


def read_picture(file: Path, side: int | None) -> np.ndarray:
    """The picture in `file`, upright and in RGB, uint8 (H, W, 3), squeezed to a square of `side` pixels unless that is None.

    Raises InputError for a file that is no picture.
    """
    try:
        with Image.open(file) as picture:
            return resized(upright_rgb(picture), side)
    except OSError as error:
        raise InputError(f"{file}: the picture cannot be read: {error}") from error
