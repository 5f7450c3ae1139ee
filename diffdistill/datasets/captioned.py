"""Captioned pictures from wherever the Hugging Face `datasets` library can read them, or from tar files."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.compute
from torch.utils.data import Dataset

from diffdistill.registry import DATASETS

from .filters import Narrowing, check_count, parse_filters
from .pictures import reason_of
from .reading import RowReader
from .shard_index import open_shards
from .shards import is_sharded
from .sizes import picture_sizes, size_columns, sizes_after
from .skipping import BadSampleError, lines_of, most_skipped, too_many
from .sources import open_source, picture_folder


@DATASETS.register_module()
class CaptionedImages(RowReader, Dataset):
    """Pictures with captions, decoded when they are asked for.

    An item is `dict(image, caption, sample, skipped)`, the image upright and in RGB, passed through `pipeline`. Where a
    picture has several captions, one is drawn from torch's global generator each time. `sample` names the row, "row 17
    (a.png)". A row whose picture cannot be read or whose caption is missing is replaced by the next one that can be used;
    `skipped` then has a JSON line for each that was left out, and else is "". Of tar files, what their index shows to be
    unusable is left out at once; `left_out` has the lines.

    Args:
        source: name on the Hugging Face Hub; or a folder of pictures with `metadata.csv` or `metadata.jsonl` (`file_name`
            and the caption); a folder or file of parquet; a folder written by `Dataset.save_to_disk`; a JSONL or CSV file
            with paths of pictures, relative to its own folder; tar files as img2dataset writes them, in a folder, by a
            pattern or behind an address of fsspec; or what this package has, "diffdistill::star_pictures".
        split: which rows, slices included ("train[:100]"); a single `Dataset` saved to disk, and tar files, are read whole.
        image_column: pictures, encoded pictures, or paths of pictures.
        caption_column: text or lists of texts; by default the one column named text, caption, captions or prompt. Of tar
            files "text" is what the .txt says; the others are the keys of the .json.
        pipeline: configs of the transforms, in order.
        max_skipped: the share of the rows that may be skipped (one row always may); with 0 the first one is an error.
        filters: conditions that a row must meet, "aesthetic > 7.5"; see `datasets.filters.Filter`.
        min_size: the least that the shorter side of a picture may have, in pixels.
        max_samples: how many rows are taken at most, the first of those that the filters leave.
        max_pixels: a picture of more pixels is a bad sample; see `RowReader`.

    Raises:
        InputError: the source cannot be read, a column is missing or of the wrong kind, or no row is left (at once); more
            rows in a row than may be skipped cannot be used (at the first row at once, at any other when it is asked for).
    """

    def __init__(
        self,
        source: str,
        split: str = "train",
        image_column: str = "image",
        caption_column: str | None = None,
        pipeline: list[dict] = (),
        max_skipped: float = 0.01,
        filters: Sequence[str] = (),
        min_size: int | None = None,
        max_samples: int | None = None,
        max_pixels: int | None = None,
    ):
        source = str(source)
        rows = open_shards(source) if is_sharded(source) else open_source(source, split)
        super().__init__(source, picture_folder(source), rows.features, image_column, caption_column, pipeline, max_pixels)
        if isinstance(rows.features[image_column], datasets.Image):
            rows = rows.cast_column(image_column, datasets.Image(decode=False))  # decoded here, so errors name the picture
        narrowing = Narrowing(rows, source)
        self.left_out = lines_of(self._leave_out(narrowing, max_skipped))
        self._narrow(narrowing, filters, min_size, max_samples)
        kept = [self.image_column, self.caption_column, *size_columns(narrowing.rows)]
        self.rows = narrowing.rows.select_columns(kept)
        self.numbers, self.narrowed = narrowing.numbers, narrowing.log
        self.max_skipped, self.most_skipped = max_skipped, most_skipped(max_skipped, len(self.rows))
        self._picture_sizes: np.ndarray | None = None
        self._sizes: np.ndarray | None = None
        self._usable(0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"CaptionedImages: index {index} is not in [0, {len(self)})")
        return self.transform(self._usable(index))

    def picture_sizes(self) -> np.ndarray:
        """(height, width) of each row's upright picture (N, 2), none of which is decoded; (0, 0) where it cannot be read."""
        if self._picture_sizes is None:
            self._picture_sizes = picture_sizes(self.rows, self.image_column, self.folder)
        return self._picture_sizes

    def item_sizes(self) -> np.ndarray:
        """(height, width) of the pictures of all items (N, 2): what `pipeline` makes of `picture_sizes`.

        From then on items keep to them: a row that takes another's place is cropped to that one's size. Raises InputError
        where no picture can be read.
        """
        if self._sizes is None:
            try:
                self._sizes = sizes_after(self.pipeline, self.picture_sizes())
            except ValueError as error:
                raise too_many(self.source, len(self), len(self), self.max_skipped, str(error)) from error
        return self._sizes

    def _usable(self, index: int) -> dict:
        """The item of row `index`, or of the next that can be used: which one depends on nothing but the data."""
        skipped, sized = [], {} if self._sizes is None else {"target_size": tuple(self._sizes[index].tolist())}
        for row in self._in_place_of(index):
            try:
                return self.read(row) | {"skipped": lines_of(skipped)} | sized
            except BadSampleError as bad:
                skipped.append(bad)
            if len(skipped) > self.most_skipped:
                break
        raise too_many(self.source, len(skipped), len(self), self.max_skipped, str(skipped[-1]))

    def _in_place_of(self, index: int) -> Iterator[int]:
        """Row `index` and then all others, from the next one on; where sizes are known, first those of the same size."""
        yield index
        others = (np.arange(1, len(self)) + index) % len(self)
        if self._sizes is not None:
            same = (self._sizes[others] == self._sizes[index]).all(1)
            others = np.concatenate([others[same], others[~same]])
        yield from others.tolist()

    def read(self, index: int) -> dict:
        """`image`, `caption` and `sample` of row `index`. Raises BadSampleError where it cannot be used."""
        number = int(self.numbers[index])
        try:
            row = self.rows[index]
        except Exception as error:  # a damaged file of the table
            raise BadSampleError(self.source, number, None, reason_of(error)) from error
        return self.item(row, number)

    def problem(self, index: int) -> BadSampleError | None:
        """Why row `index` cannot be used; None where it can."""
        try:
            self.read(index)
        except BadSampleError as bad:
            return bad
        return None

    def captions(self) -> Iterable[str | list[str] | None]:
        """The caption, or captions, of each row, as they are in the table."""
        return self.rows[self.caption_column][:]

    def fingerprint(self) -> str:
        """What tells these rows and pictures from others: that of the table, and sizes and times of pictures in files."""
        digest = hashlib.sha256(self.rows._fingerprint.encode())
        for value in picture_paths(self.rows.data.column(self.image_column)):
            with suppress(OSError):  # a picture that is not there, which is left out in training
                stat = Path(self.folder or "", value).stat()
                digest.update(f"{value} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def _leave_out(self, narrowing: Narrowing, share: float) -> list[BadSampleError]:
        """Take those rows of tar files out that have no picture; returns what is wrong with them."""
        rows = narrowing.rows
        if "__problem__" not in rows.column_names:
            return []
        problems = np.asarray(rows["__problem__"][:])
        wrong = np.flatnonzero(problems != "")
        said = rows.select_columns(["__shard__", "__key__", "__problem__"]).select(wrong)
        left_out = [
            BadSampleError(row["__shard__"], number, row["__key__"], row["__problem__"])
            for number, row in zip(wrong.tolist(), said, strict=True)
        ]
        if len(wrong) > most_skipped(share, len(rows)) or len(wrong) == len(rows):
            raise too_many(self.source, len(wrong), len(rows), share, str(left_out[-1]))
        narrowing.keep(np.flatnonzero(problems == ""))
        return left_out

    def _narrow(self, narrowing: Narrowing, filters: Sequence[str], min_size: int | None, max_samples: int | None) -> None:
        """Keep the rows that the filters leave."""
        for name, value in (("min_size", min_size), ("max_samples", max_samples)):
            if value is not None:
                check_count(name, value)
        for each in parse_filters(filters, self.source, narrowing.rows.column_names):
            narrowing.keep(each.kept(narrowing.rows, self.source), f"the filter {each.text!r}")
        if min_size is not None:
            sizes = picture_sizes(narrowing.rows, self.image_column, self.folder)
            narrowing.keep(np.flatnonzero((sizes.min(1) >= min_size) | ~sizes.any(1)), f"min_size={min_size}")
        if max_samples is not None:
            narrowing.keep(np.arange(min(max_samples, len(narrowing.rows))), f"max_samples={max_samples}")


def picture_paths(column: pyarrow.ChunkedArray) -> Iterator[str]:
    """The paths of the pictures of a column that are in files of their own; no picture is read."""
    if pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        inside = pyarrow.compute.is_valid(pyarrow.compute.struct_field(column, "bytes"))
        paths = pyarrow.compute.struct_field(column, "path")
        column = paths.filter(pyarrow.compute.invert(inside))
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        yield from (value.as_py() for value in column if value.is_valid)
