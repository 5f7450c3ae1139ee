"""How large pictures are without decoding one: from the columns of a table, or from the headers of the files."""

from pathlib import Path

import datasets
import numpy as np

from .pictures import size_of

COLUMNS = (("height", "width"), ("HEIGHT", "WIDTH"))


def picture_sizes(rows: datasets.Dataset, column: str, folder: Path | None) -> np.ndarray:
    """(height, width) (N, 2) of the pictures in a `column` of `rows`; (0, 0) where one cannot be read."""
    for names in COLUMNS:
        if set(names) <= set(rows.column_names):
            table = rows.select_columns(names).with_format("numpy")
            return np.stack([np.nan_to_num(np.asarray(table[name][:], dtype=float)) for name in names], axis=1)
    return np.array([size_of(row[column], folder) for row in rows.select_columns([column])])
