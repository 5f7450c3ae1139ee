"""Captioned pictures from wherever the Hugging Face `datasets` library can read them."""

import datasets
import torch
from PIL import Image
from torch.utils.data import Dataset

from diffdistill.errors import InputError
from diffdistill.registry import DATASETS, TRANSFORMS

from .pictures import read_picture
from .sources import first_line, local_path, open_source

CAPTION_NAMES = ("text", "caption", "captions", "prompt")


@DATASETS.register_module()
class CaptionedImages(Dataset):
    """Pictures with captions, decoded when they are asked for.

    An item is `dict(image, caption)`, the image upright and in RGB, passed through `pipeline`. Where a picture has several
    captions, one is drawn from torch's global generator each time.

    Args:
        source: name on the Hugging Face Hub; or a folder of pictures with `metadata.csv` or `metadata.jsonl` (`file_name`
            and the caption); a folder or file of parquet; a folder written by `Dataset.save_to_disk`; a JSONL or CSV file
            with paths of pictures, relative to its own folder; or what this package has, "diffdistill::star_pictures".
        split: which rows, slices included ("train[:100]"); a single `Dataset` saved to disk is read whole.
        image_column: pictures, encoded pictures, or paths of pictures.
        caption_column: text or lists of texts; by default the one column named text, caption, captions or prompt.
        pipeline: configs of the transforms, in order.

    Raises:
        InputError: the source cannot be read, or a column is missing or of the wrong kind (at once); a picture cannot be
            read or a caption is not text (the first row at once, any other when it is asked for).
    """

    def __init__(
        self,
        source: str,
        split: str = "train",
        image_column: str = "image",
        caption_column: str | None = None,
        pipeline: list[dict] = (),
    ):
        self.pipeline = [TRANSFORMS.build(transform) for transform in pipeline]
        self.source = str(source)
        path = local_path(self.source)
        self.folder = path.parent if path.is_file() else path
        rows = open_source(self.source, split)
        self.image_column = image_column
        self._check("image_column", image_column, rows, _holds_pictures, "pictures")
        self.caption_column = caption_column or self._usual_caption(rows.column_names)
        self._check("caption_column", self.caption_column, rows, _holds_text, "text")
        rows = rows.select_columns([self.image_column, self.caption_column])
        if isinstance(rows.features[image_column], datasets.Image):
            rows = rows.cast_column(image_column, datasets.Image(decode=False))  # decoded here, so errors name the picture
        self.rows = rows
        self._item(0)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        item = self._item(index)
        for transform in self.pipeline:
            item = transform(item)
        return item

    def _item(self, index: int) -> dict:
        row = self.rows[index]
        return {"image": self._picture(row[self.image_column], index), "caption": self.caption(row, index)}

    def caption(self, row: dict, index: int) -> str:
        """The caption of a row; of several, one drawn at random. Raises InputError for one that is not text."""
        caption = row[self.caption_column]
        if isinstance(caption, list) and caption:
            caption = caption[int(torch.randint(len(caption), ()))]
        if not isinstance(caption, str):
            raise InputError(f"{self.source}: row {index} has {caption!r} as its {self.caption_column!r}, which is not text")
        return caption

    def _picture(self, value: dict | bytes | str, index: int) -> Image.Image:
        if isinstance(value, dict):  # how `datasets` stores a picture
            value = value["bytes"] or value["path"]
        try:
            return read_picture(value, self.folder)
        except Exception as error:  # the decoders of broken files raise nearly anything
            name = f"row {index}" if isinstance(value, bytes) else f"row {index} ({value})"
            raise InputError(f"{self.source}: the picture of {name} cannot be read: {first_line(error)}") from error

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


def _holds_text(feature) -> bool:
    return _dtype(getattr(feature, "feature", feature)).endswith("string")


def _holds_pictures(feature) -> bool:
    if isinstance(feature, dict):
        return {"bytes", "path"} <= feature.keys()
    return isinstance(feature, datasets.Image) or _dtype(feature).endswith(("string", "binary"))


def _dtype(feature) -> str:
    return getattr(feature, "dtype", "")  # nested features have none
