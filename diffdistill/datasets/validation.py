"""Captions to make pictures of, without pictures: what students are validated and tested on."""

import hashlib
from pathlib import Path

from torch.utils.data import Dataset

from diffdistill.errors import InputError, shortened
from diffdistill.files import read_lines
from diffdistill.registry import DATASETS

from .reading import CAPTION_NAMES
from .sources import open_source


@DATASETS.register_module()
class CaptionList(Dataset):
    """Captions in the order of their source. Items hold `caption`, and `seed`, an int of its own for the noise.

    Args:
        source: a text file with one caption a line; a JSONL, CSV or parquet file; a folder that `datasets` reads; or a name
            on the Hugging Face Hub. Of several captions of one row the first is taken.
        caption_column: by default the one column named text, caption, captions or prompt.
        split: which rows, of a folder or hub name.
        limit: the first so many captions; None takes all.
        seed: of the noise seeds.

    Raises:
        InputError: the source cannot be read, has no such column, no caption, or a row without one.
    """

    def __init__(
        self,
        source: str,
        caption_column: str | None = None,
        split: str = "train",
        limit: int | None = None,
        seed: int = 0,
    ):
        if limit is not None and limit < 1:
            raise InputError(f"CaptionList: limit={limit} must be at least 1, or None for all captions")
        self.source, self.seed = str(source), seed
        if self.source.endswith(".txt"):
            captions = read_lines(source, "CaptionList: source")
        else:
            captions = read_table(source, split, caption_column)
        self.captions = captions[:limit]
        if not self.captions:
            raise InputError(f"{source}: there are no captions")

    @property
    def protocol(self) -> dict:
        """What tells these captions from others: `captions`, with a digest of all of them, and `seed`."""
        digest = hashlib.sha256("\n".join(self.captions).encode()).hexdigest()[:8]
        return dict(captions=f"captions of {Path(self.source).name} ({digest})", seed=self.seed)

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, index: int) -> dict:
        return dict(caption=self.captions[index], seed=1_000_003 * self.seed + index)


def read_table(source: str, split: str, column: str | None) -> list[str]:
    """The captions in `column` of a table; of several in a row, the first.

    With None it is the one column that is named like captions. Raises InputError if there is no such column, or more than
    one, and for a row whose caption is not text.
    """
    rows = open_source(str(source), split)
    usual = [name for name in rows.column_names if name.lower() in CAPTION_NAMES]
    if column is None and len(usual) == 1:
        column = usual[0]
    if column not in rows.column_names:
        problem = f"there is no column {column!r}" if column else "no column, or more than one, is named like captions"
        raise InputError(f"{source}: {problem}; set caption_column to one of {', '.join(rows.column_names)}")
    captions = [each[0] if isinstance(each, list) and each else each for each in rows.select_columns([column])[column]]
    for number, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise InputError(f"{source}: row {number} has {shortened(repr(caption))} as its {column!r}, which is not text")
    return captions
