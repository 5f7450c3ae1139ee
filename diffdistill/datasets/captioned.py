"""Captioned pictures from wherever the Hugging Face `datasets` library can read them."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import datasets
import pyarrow
import pyarrow.compute
import torch
from torch.utils.data import Dataset

from diffdistill.errors import InputError, shortened
from diffdistill.registry import DATASETS, TRANSFORMS

from .pictures import read_picture, reason_of
from .skipping import BadSampleError, lines_of, most_skipped, sample_name, too_many
from .sources import open_source, picture_folder

CAPTION_NAMES = ("text", "caption", "captions", "prompt")


@DATASETS.register_module()
class CaptionedImages(Dataset):
    """Pictures with captions, decoded when they are asked for.

    An item is `dict(image, caption, sample, skipped)`, the image upright and in RGB, passed through `pipeline`. Where a
    picture has several captions, one is drawn from torch's global generator each time. `sample` names the row, "row 17
    (a.png)". A row whose picture cannot be read or whose caption is missing is replaced by the next one that can be used;
    `skipped` then has a JSON line for each that was left out, and else is "".

    Args:
        source: name on the Hugging Face Hub; or a folder of pictures with `metadata.csv` or `metadata.jsonl` (`file_name`
            and the caption); a folder or file of parquet; a folder written by `Dataset.save_to_disk`; a JSONL or CSV file
            with paths of pictures, relative to its own folder; or what this package has, "diffdistill::star_pictures".
        split: which rows, slices included ("train[:100]"); a single `Dataset` saved to disk is read whole.
        image_column: pictures, encoded pictures, or paths of pictures.
        caption_column: text or lists of texts; by default the one column named text, caption, captions or prompt.
        pipeline: configs of the transforms, in order.
        max_skipped: the share of the rows that may be skipped (one row always may); with 0 the first one is an error.

    Raises:
        InputError: the source cannot be read, or a column is missing or of the wrong kind (at once); more rows in a row than
            may be skipped cannot be used (at the first row at once, at any other when it is asked for).
    """

    def __init__(
        self,
        source: str,
        split: str = "train",
        image_column: str = "image",
        caption_column: str | None = None,
        pipeline: list[dict] = (),
        max_skipped: float = 0.01,
    ):
        self.pipeline = [TRANSFORMS.build(transform) for transform in pipeline]
        self.source, self.folder = str(source), picture_folder(str(source))
        rows = open_source(self.source, split)
        self.image_column = image_column
        self._check("image_column", image_column, rows, _holds_pictures, "pictures")
        self.caption_column = caption_column or self._usual_caption(rows.column_names)
        self._check("caption_column", self.caption_column, rows, _holds_text, "text")
        rows = rows.select_columns([self.image_column, self.caption_column])
        if isinstance(rows.features[image_column], datasets.Image):
            rows = rows.cast_column(image_column, datasets.Image(decode=False))  # decoded here, so errors name the picture
        self.rows = rows
        self.max_skipped, self.most_skipped = max_skipped, most_skipped(max_skipped, len(rows))
        self._usable(0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"CaptionedImages: index {index} is not in [0, {len(self)})")
        item = self._usable(index)
        for transform in self.pipeline:
            item = transform(item)
        return item

    def _usable(self, index: int) -> dict:
        """The item of row `index`, or of the next that can be used: which one depends on nothing but the data."""
        skipped = []
        while len(skipped) < len(self):
            try:
                return self.read((index + len(skipped)) % len(self)) | {"skipped": lines_of(skipped)}
            except BadSampleError as bad:
                skipped.append(bad)
            if len(skipped) > self.most_skipped:
                break
        raise too_many(self.source, len(skipped), len(self), self.max_skipped, str(skipped[-1]))

    def read(self, index: int) -> dict:
        """`image`, `caption` and `sample` of row `index`. Raises BadSampleError where it cannot be used."""
        file = None
        try:
            row = self.rows[index]
            picture, caption = row[self.image_column], row[self.caption_column]
            file = self._file(picture)
            caption = self.one_caption(caption)
            image = read_picture(picture, self.folder)
        except Exception as error:  # the decoders of broken files raise nearly anything
            raise BadSampleError(self.source, index, file, reason_of(error)) from error
        return {"image": image, "caption": caption, "sample": sample_name(index, file)}

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

    def one_caption(self, caption: str | list[str] | None) -> str:
        """The caption of a row; of several, one drawn at random. Raises ValueError for one that is not text."""
        if caption is None or caption == []:
            raise ValueError(f"there is no caption in {self.caption_column!r}")
        if isinstance(caption, list):
            caption = caption[int(torch.randint(len(caption), ()))]
        if not isinstance(caption, str):
            raise ValueError(f"{self.caption_column!r} is {shortened(caption)}, which is not text")
        return caption

    def _file(self, value: dict | bytes | str | None) -> str | None:
        """The path of a picture as people know it: below the folder of the table, where it is there."""
        path = value.get("path") if isinstance(value, dict) else value
        if not isinstance(path, str) or self.folder is None or not Path(path).is_relative_to(self.folder):
            return path if isinstance(path, str) else None
        return str(Path(path).relative_to(self.folder))

    def _check(self, key: str, column: str, rows: datasets.Dataset, holds, what: str):
        advice = f"the columns are {', '.join(rows.column_names)}; set {key} to the one that holds {what}"
        if column not in rows.column_names:
            raise InputError(f"{self.source}: there is no column {column!r}; {advice}")
        if not holds(rows.features[column]):
            kind = getattr(rows.features[column], "dtype", rows.features[column])
            raise InputError(f"{self.source}: column {column!r} holds {kind}; {advice}")

    def _usual_caption(self, columns: list[str]) -> str:
        found = [column for column in columns if column.lower() in CAPTION_NAMES]
        if len(found) == 1:
            return found[0]
        if set(columns) <= {self.image_column, "label"}:  # what `datasets` makes of bare pictures
            raise InputError(
                f"{self.source}: the pictures have no captions; list them as file_name,text in metadata.csv there"
            )
        problem = f"{' and '.join(found)} may both be the captions" if found else "no column is named like captions"
        raise InputError(f"{self.source}: {problem}; set caption_column to one of {', '.join(columns)}")


def picture_paths(column: pyarrow.ChunkedArray) -> Iterator[str]:
    """The paths of the pictures of a column that are in files of their own; no picture is read."""
    if pyarrow.types.is_struct(column.type):
        inside = pyarrow.compute.is_valid(pyarrow.compute.struct_field(column, "bytes"))
        paths = pyarrow.compute.struct_field(column, "path")
        column = paths.filter(pyarrow.compute.invert(inside))
    if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
        yield from (value.as_py() for value in column if value.is_valid)


def _holds_text(feature) -> bool:
    return _dtype(getattr(feature, "feature", feature)).endswith("string")


def _holds_pictures(feature) -> bool:
    if isinstance(feature, dict):
        return {"bytes", "path"} <= feature.keys()
    return isinstance(feature, datasets.Image) or _dtype(feature).endswith(("string", "binary"))


def _dtype(feature) -> str:
    return getattr(feature, "dtype", "")  # nested features have none
