"""Captioned pictures that are read one after the other, from wherever they are, and never all known."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from diffdistill.errors import InputError
from diffdistill.registry import DATASETS

from .filters import check_count, parse_filters
from .pictures import header_size
from .reading import RowReader
from .shards import is_sharded
from .skipping import BadSampleError, lines_of, most_skipped, too_many
from .sources import picture_folder
from .stream_rows import TableRows, TarRows

AT_LEAST = 1000  # samples of which `max_skipped` is a share, before a stream has given as many


@DATASETS.register_module()
class CaptionStream(RowReader):
    """Captioned pictures as a stream: nothing is indexed or kept, and what there is need not be here.

    Items are those of `CaptionedImages`. A stream is read in parts, by one worker of one rank each: in every pass a part
    reads shards of its own, or where there are fewer shards than parts, rows of its own of all shards. The order of shards
    is drawn anew for each pass, and within a part rows are shuffled in blocks. A stream has no length.

    Args:
        source, split, image_column, caption_column, pipeline: as in `CaptionedImages`; `source` no folder of `save_to_disk`.
        max_skipped: the share of the samples so far that may be skipped (of the first thousand, ten by default).
        filters, min_size, max_pixels: as in `CaptionedImages`.
        shuffle_buffer: how many rows, still encoded, a part holds to shuffle them; 1 keeps the order within a shard.

    Raises:
        InputError: the source cannot be read, a column is missing or of the wrong kind, or its first rows are of no use.
    """

    streamed = True

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
        max_pixels: int | None = None,
        shuffle_buffer: int = 1000,
    ):
        source = str(source)
        self.shards = TarRows(source) if is_sharded(source) else TableRows(source, split, image_column)
        columns = self.shards.columns
        super().__init__(source, picture_folder(source), columns, image_column, caption_column, pipeline, max_pixels)
        self.max_skipped = max_skipped
        most_skipped(max_skipped, AT_LEAST)
        check_count("shuffle_buffer", shuffle_buffer)
        if min_size is not None:
            check_count("min_size", min_size)
        self.shuffle_buffer, self.min_size = shuffle_buffer, min_size
        self.filters = parse_filters(filters, source, list(columns))
        self.narrowed = [f"{source}: the stream is filtered by {each.text!r}" for each in self.filters]

    def first(self) -> dict:
        """The first item, for a look at what items are."""
        return next(Part(self, 0, 0, 1, {}, buffer=1, shuffled=False))

    def part(self, seed: int, part: int, of: int, position: Mapping) -> "Part":
        """Part number `part` of `of`, from a `position` on that the same part has had; {} is the beginning."""
        return Part(self, seed, part, of, position, self.shuffle_buffer)

    def most_skipped_of(self, samples: int) -> int:
        """How many of so many samples may be skipped."""
        return most_skipped(self.max_skipped, max(samples, AT_LEAST))

    def wanted(self, row: Mapping) -> bool:
        """Whether a row passes the filters, or cannot be used, which is found out where its item is made."""
        if row.get("__problem__"):
            return True
        if not all(each.keeps(row) for each in self.filters):
            return False
        if self.min_size is None:
            return True
        size = header_size(row[self.image_column], self.folder)
        return min(size) >= self.min_size or not any(size)


@dataclasses.dataclass
class Block:
    """Rows that are shuffled together: where in a pass the first one was read, and how far the pass had come with them."""

    start: dict
    rows: list = dataclasses.field(default_factory=list)
    full: bool = False


class Part:
    """An iterator of the items of a part of a stream, endless, with a `position` from which it can go on.

    It reads a row for each that it hands out, so that it holds one `buffer` of rows. Its position is that of the first row
    of the block that it is in, and how many of that block it has handed out: whoever goes on from there reads the block
    once more, and decodes nothing of what was handed out.
    """

    def __init__(
        self, stream: CaptionStream, seed: int, part: int, of: int, position: Mapping, buffer: int, shuffled: bool = True
    ):
        self.stream, self.seed, self.part, self.of, self.buffer, self.shuffled = stream, seed, part, of, buffer, shuffled
        start = {name: position.get(name, 0) for name in ("epoch", "shard", "row")}
        self.rows = self.read(**start)
        self.block, self.next_block, self.drawn = self.full_block(Block(start)), None, 0
        for _ in range(position.get("drawn", 0)):
            self.draw()

    @property
    def position(self) -> dict:
        """Where the part is, as plain numbers."""
        return self.block.start | {"drawn": self.drawn}

    def __iter__(self) -> "Part":
        return self

    def __next__(self) -> dict:
        skipped: list[BadSampleError] = []
        while True:
            shard, number, row = self.draw()
            try:
                item = self.stream.item(row, number, shard) | {"skipped": lines_of(skipped)}
            except BadSampleError as bad:
                skipped.append(bad)
                if len(skipped) > self.stream.most_skipped_of(0):
                    stream = self.stream
                    raise too_many(stream.source, len(skipped), None, stream.max_skipped, str(bad)) from bad
                continue
            return self.stream.transform(item)

    def draw(self) -> tuple[str, int, dict]:
        """The next row, with its shard and its number there, before anything of it is decoded."""
        if self.drawn == len(self.block.rows):
            self.block, self.next_block, self.drawn = self.full_block(self.next_block or Block({})), None, 0
        self.next_block = self.next_block or Block({})
        self.extend(self.next_block)
        where = self.order[self.drawn]
        found, self.block.rows[where] = self.block.rows[where], None
        self.drawn += 1
        return found

    def full_block(self, block: Block) -> Block:
        """The block with all its rows; sets the `order` in which they are handed out, which follows from where it starts."""
        while not block.full:
            self.extend(block)
        generator = np.random.default_rng([self.seed, self.part, *block.start.values()])
        self.order = generator.permutation(len(block.rows)) if self.shuffled else range(len(block.rows))
        return block

    def extend(self, block: Block) -> None:
        """Read a row into a block that is not full; one ends with its pass."""
        if block.full:
            return
        found = next(self.rows)
        if found is None:
            block.full = bool(block.rows)
            return
        place, *row = found
        block.start = block.start if block.rows else place
        block.rows.append(tuple(row))
        block.full = len(block.rows) == self.buffer

    def read(self, epoch: int, shard: int, row: int) -> Iterator[tuple | None]:
        """The rows from a place on, as place, name of the shard, number and row; None where a pass ends. Without end.

        Raises InputError where a whole pass has no row.
        """
        shards, found, whole = self.stream.shards, 0, not (shard or row)
        while True:
            own, every = self.share(epoch)
            for place in range(shard, len(own)):
                wanted = functools.partial(is_own, first=row, part=self.part % every, of=every)
                for number, content in shards.read(own[place], wanted):
                    if self.stream.wanted(content):
                        found += 1
                        yield dict(epoch=epoch, shard=place, row=number), shards.names[own[place]], number, content
                row = 0
            if whole and not found:
                raise InputError(
                    f"{self.stream.source}: part {self.part + 1} of {self.of} of the stream has no rows: the filters leave"
                    " none, or there are fewer rows than ranks times workers; loosen them, or lower the loader's num_workers"
                )
            yield None
            epoch, shard, found, whole = epoch + 1, 0, 0, True

    def share(self, epoch: int) -> tuple[list[int], int]:
        """The shards that the part reads in a pass, in their order, and of how many of their rows one is its own."""
        order = np.arange(len(self.stream.shards.names))
        if self.shuffled:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        return (order.tolist(), self.of) if len(order) < self.of else (order[self.part :: self.of].tolist(), 1)


def is_own(line: int, first: int, part: int, of: int) -> bool:
    """Whether a part reads the row `line` of a shard, of which it has done those before `first`."""
    return line >= first and line % of == part
