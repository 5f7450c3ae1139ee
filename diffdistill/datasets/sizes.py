"""How large pictures are without decoding one: from the columns of a table, or from the headers of the files.

Sizes are those of `upright_rgb`, (height, width) in pixels, and (0, 0) where a picture's header cannot be read.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.compute

from diffdistill.errors import warn_once

from .pictures import header_size

# As img2dataset writes them, of the stored picture before those of the picture that it fetched; and as LAION does.
COLUMNS = (("height", "width"), ("original_height", "original_width"))
THREADS = 16  # files are read meanwhile: of headers, opening a file takes longest
COMPARED = 16  # pictures by which the columns are tried
CLOSE = 0.05  # how far their aspect ratios may be off: a picture that was made small has rounded sides


def size_columns(rows: datasets.Dataset) -> list[str]:
    """The names of the two columns of `rows` with the height and width of its pictures, in capitals or not; or []."""
    names = {name.lower(): name for name in rows.column_names}
    for pair in COLUMNS:
        found = [names[name] for name in pair if name in names]
        if len(found) == 2 and all(_is_number(rows.features[name]) for name in found):
            return found
    return []


def _is_number(feature) -> bool:
    return getattr(feature, "dtype", "").startswith(("int", "uint", "float"))


def picture_sizes(rows: datasets.Dataset, column: str, folder: Path | None) -> np.ndarray:
    """The sizes (N, 2) of the pictures in a `column` of `rows`, whose paths are relative to `folder`.

    Columns of sizes are believed where they have the shapes of a few pictures, which are looked at. Headers are read once:
    `datasets` keeps what was found in its cache.
    """
    names = size_columns(rows)
    if names:
        table = rows.select_columns(names).with_format("pandas")[:][names]  # in which a missing number is NaN
        sizes = np.nan_to_num(table.to_numpy(dtype=float)).clip(0).astype(np.int64)
        missing = np.flatnonzero(~sizes.all(1))
        if _have_the_shapes(sizes, rows, column, folder):
            if len(missing):
                sizes[missing] = header_sizes(rows.select(missing), column, folder)
            return sizes
        warn_once(f"columns {' and '.join(names)} are not the sizes of the pictures: their headers are read instead")
    return header_sizes(rows, column, folder)


def _have_the_shapes(sizes: np.ndarray, rows: datasets.Dataset, column: str, folder: Path | None) -> bool:
    some = np.unique(np.linspace(0, len(rows) - 1, COMPARED).astype(int))
    true = header_sizes(rows.select(some), column, folder, cached=False)
    both = true.all(1) & sizes[some].all(1)
    written, true = sizes[some][both], true[both]
    return bool((np.abs(np.log((written[:, 0] * true[:, 1]) / (written[:, 1] * true[:, 0]))) < CLOSE).all())


def header_sizes(rows: datasets.Dataset, column: str, folder: Path | None, cached: bool = True) -> np.ndarray:
    """The sizes (N, 2) that the headers of the pictures in a `column` of `rows` say."""
    read = rows.select_columns([column]).with_format("arrow").map
    options = dict(batched=True, remove_columns=[column], desc="Reading the sizes of pictures")
    function = partial(_sizes_of_table, column=column, folder=folder)
    try:
        found = read(function, keep_in_memory=not cached, load_from_cache_file=cached, **options)
    except OSError:  # the folder of the data set cannot be written
        found = read(function, keep_in_memory=True, load_from_cache_file=False, **options)
    found = found.with_format("numpy")
    return np.stack([found["height"][:], found["width"][:]], axis=1)


def _sizes_of_table(table: pyarrow.Table, column: str, folder: Path | None) -> pyarrow.Table:
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(partial(header_size, folder=folder), _values(table[column])))
    return pyarrow.table({"height": [height for height, _ in sizes], "width": [width for _, width in sizes]})


def _values(column: pyarrow.ChunkedArray) -> Iterable:
    """The pictures of a column for `header_size`: paths, or views of the table's bytes, which are not read as a whole."""
    if pyarrow.types.is_struct(column.type) and column.type.get_field_index("shard") >= 0:
        yield from (value.as_py() for value in column)  # where each lies in its tar file
        return
    if pyarrow.types.is_struct(column.type):
        content, paths = (pyarrow.compute.struct_field(column, name) for name in ("bytes", "path"))
    elif pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(column.type):
        content, paths = column, pyarrow.nulls(len(column))
    else:
        content, paths = pyarrow.nulls(len(column)), column
    for value, path in zip(content, paths, strict=True):
        yield pyarrow.BufferReader(value.as_buffer()) if value.is_valid else path.as_py()


def sizes_after(pipeline: Iterable[Callable], sizes: np.ndarray) -> np.ndarray:
    """The sizes (N, 2) of items whose pictures had `sizes` (N, 2), after the transforms of `pipeline`.

    Those that are not told by `sizes_after` of a transform stay. A picture that cannot be read has the size of the next
    that can, as its item has. Raises ValueError where none can.
    """
    readable = np.flatnonzero(sizes.all(1))
    if not len(readable):
        raise ValueError("the header of no picture can be read")
    sizes = sizes[readable[np.searchsorted(readable, np.arange(len(sizes))) % len(readable)]]
    for transform in pipeline:
        if hasattr(transform, "sizes_after"):
            sizes = transform.sizes_after(sizes)
    return sizes
