"""How a row of any source becomes an item: which columns, one caption of several, the picture, and what names it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import torch

from diffdistill.errors import InputError, shortened
from diffdistill.registry import TRANSFORMS

from .filters import check_count
from .pictures import read_picture, reason_of
from .skipping import BadSampleError, sample_name

CAPTION_NAMES = ("text", "caption", "captions", "prompt")


class RowReader:
    """Makes items of rows. What a data set of captioned pictures is built on, whether it has a length or is a stream.

    Args:
        source: what errors call the data set.
        folder: to which paths of pictures are relative; None for a data set of the Hub.
        columns: name -> feature of the `datasets` library.
        image_column, caption_column: as in `CaptionedImages`.
        pipeline: configs of the transforms, in order.
        max_pixels: a picture of more is a bad sample; None leaves that to Pillow, which opens none of twice its
            MAX_IMAGE_PIXELS.

    Raises:
        InputError: a column is missing or of the wrong kind.
    """

    def __init__(
        self,
        source: str,
        folder: Path | None,
        columns: Mapping,
        image_column: str,
        caption_column: str | None,
        pipeline: Sequence[Mapping],
        max_pixels: int | None = None,
    ):
        if max_pixels is not None:
            check_count("max_pixels", max_pixels)
        self.source, self.folder, self.max_pixels = source, folder, max_pixels
        self.pipeline = [TRANSFORMS.build(transform) for transform in pipeline]
        self.image_column = image_column
        self._check("image_column", image_column, columns, _holds_pictures, "pictures")
        self.caption_column = caption_column or self._usual_caption(list(columns))
        self._check("caption_column", self.caption_column, columns, _holds_text, "text")

    def item(self, row: Mapping, number: int, shard: str | None = None) -> dict:
        """`image`, `caption` and `sample` of a row, before the pipeline. Raises BadSampleError where it cannot be used.

        `number` is that of the row in the source, or in a `shard` of it.
        """
        file = None
        try:
            if problem := row.get("__problem__"):
                raise ValueError(problem)
            picture, caption = row[self.image_column], row[self.caption_column]
            file = self._file(picture)
            caption = self.one_caption(caption)
            image = read_picture(picture, self.folder, self.max_pixels)
        except Exception as error:  # the decoders of broken files raise nearly anything
            raise BadSampleError(shard or self.source, number, file, reason_of(error)) from error
        return {"image": image, "caption": caption, "sample": sample_name(number, file)}

    def transform(self, item: dict) -> dict:
        """`item` passed through every transform of `pipeline`."""
        for transform in self.pipeline:
            item = transform(item)
        return item

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

    def _check(self, key: str, column: str, columns: Mapping, holds, what: str):
        advice = f"the columns are {', '.join(columns)}; set {key} to the one that holds {what}"
        if column not in columns:
            raise InputError(f"{self.source}: there is no column {column!r}; {advice}")
        if not holds(columns[column]):
            kind = getattr(columns[column], "dtype", columns[column])
            raise InputError(f"{self.source}: column {column!r} holds {kind}; {advice}")

    def _usual_caption(self, columns: list[str]) -> str:
        found = [column for column in columns if column.lower() in CAPTION_NAMES]
        if len(found) == 1 or ("text" in found and "__key__" in columns):  # img2dataset writes the .txt into the .json, too
            return "text" if "text" in found else found[0]
        if set(columns) <= {self.image_column, "label"}:  # what `datasets` makes of bare pictures
            raise InputError(
                f"{self.source}: the pictures have no captions; list them as file_name,text in metadata.csv there"
            )
        problem = f"{' and '.join(found)} may both be the captions" if found else "no column is named like captions"
        raise InputError(f"{self.source}: {problem}; set caption_column to one of {', '.join(columns)}")


def _holds_text(feature) -> bool:
    return _dtype(getattr(feature, "feature", feature)).endswith("string")


def _holds_pictures(feature) -> bool:
    if isinstance(feature, dict):
        return {"bytes", "path"} <= feature.keys() or {"path", "shard", "offset", "size"} <= feature.keys()
    return isinstance(feature, datasets.Image) or _dtype(feature).endswith(("string", "binary"))


def _dtype(feature) -> str:
    return getattr(feature, "dtype", "")  # nested features have none
