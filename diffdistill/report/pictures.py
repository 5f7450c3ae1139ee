"""Sample grids small enough to stand inside the page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

from diffdistill.report.data import Grid

POSITIONS = 40  # of the slider
WIDTH = 1280  # of a grid, in pixels
BUDGET = 6_000_000  # bytes of all grids of a page
T = TypeVar("T")


def thin(items: Sequence[T], number: int) -> list[T]:
    """At most `number` items, evenly spread, the first and the last among them."""
    if len(items) <= number:
        return list(items)
    if number < 2:
        return [items[-1]]
    return [items[round(i * (len(items) - 1) / (number - 1))] for i in range(number)]


def encode(path: Path) -> str | None:
    """The picture as a data URI, at most 1280 pixels wide, as the smaller of PNG and JPEG; None if it is unreadable."""
    try:
        with Image.open(path) as picture:
            shown = picture.convert("RGB")
    except OSError:  # a grid that a running training is just writing
        return None
    if shown.width > WIDTH:
        shown = shown.resize((WIDTH, round(shown.height * WIDTH / shown.width)), Image.Resampling.LANCZOS)
    versions = []
    for kind, options in (("png", {}), ("jpeg", dict(quality=85))):
        file = io.BytesIO()
        shown.save(file, kind, **options)
        versions.append(f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}")
    return min(versions, key=len)


def embed(grids: Sequence[Grid]) -> list[dict]:
    """At most 40 of the grids, fewer where they are large: dicts of step, label and `uri`."""
    shown = [dict(step=grid.step, label=grid.label, uri=encode(grid.path)) for grid in thin(grids, POSITIONS)]
    shown = [picture for picture in shown if picture["uri"]]
    size = sum(len(picture["uri"]) for picture in shown)
    return thin(shown, int(len(shown) * BUDGET / size)) if size > BUDGET else shown
