"""What streams read: the rows of each shard of a source, one after the other."""

from collections.abc import Callable, Iterator

import datasets

from diffdistill.errors import InputError, shortened

from .shards import columns_of, find_shards, fitted, read_samples
from .sources import UNREADABLE, first_line, open_source


class TarRows:
    """The rows of tar files, shard by shard."""

    def __init__(self, source: str):
        self.names = find_shards(source)
        self.columns = datasets.Features(
            image={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            **columns_of(self.names[0]),
            __key__=datasets.Value("string"),
        )
        self.told = {name: feature for name, feature in self.columns.items() if name not in ("image", "__key__")}

    def read(self, shard: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, dict]]:
        """The rows of a shard whose numbers are `wanted`, each with its number. Of the others nothing is read."""
        for number, sample in read_samples(self.names[shard], wanted):
            own = {name: sample[name] for name in ("image", "__key__", "__problem__")}
            yield number, own | fitted(sample, self.told)


class TableRows:
    """The rows of what the `datasets` library streams, shard by shard."""

    def __init__(self, source: str, split: str, image_column: str):
        self.rows = open_source(source, split, streaming=True)
        if self.rows.features is None:
            self.rows = self.rows._resolve_features()
        self.columns = self.rows.features
        if isinstance(self.columns.get(image_column), datasets.Image):
            self.rows = self.rows.cast_column(image_column, datasets.Image(decode=False))
        count = self.rows.num_shards
        self.names = [source if count == 1 else f"{source}, shard {shard}" for shard in range(count)]

    def read(self, shard: int, wanted: Callable[[int], bool]) -> Iterator[tuple[int, dict]]:
        """The rows of a shard whose numbers are `wanted`, each with its number."""
        # By `iter`, since a stream that is iterated in a worker hands out that worker's shards alone.
        try:
            for number, batch in enumerate(self.rows.shard(len(self.names), shard).iter(batch_size=1)):
                if wanted(number):
                    yield number, {name: values[0] for name, values in batch.items()}
        except UNREADABLE as error:
            raise InputError(f"{self.names[shard]}: cannot be read on: {shortened(first_line(error), 200)}") from error
