"""Tar files as a table: where in its shard each picture lies, and what is said of it."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import fsspec

from diffdistill.errors import InputError, causes, shortened

from .shards import columns_of, find_shards, fitted, read_samples
from .sources import UNREADABLE, first_line, trouble_of_cache


def open_shards(source: str) -> datasets.Dataset:
    """The table of all samples of tar files, without the pictures: `image` says where in its shard each is.

    It is made once, by reading through the shards, and kept in the cache of the `datasets` library for as long as the
    shards stay what they are. `__problem__` says what is wrong with a sample. Raises InputError where a shard cannot be
    opened, or the index cannot be kept.
    """
    shards = find_shards(source)
    columns = columns_of(shards[0])
    place = dict(path="string", shard="string", offset="int64", size="int64")
    features = datasets.Features(
        image={name: datasets.Value(kind) for name, kind in place.items()},
        **columns,
        **{name: datasets.Value("string") for name in ("__key__", "__shard__", "__problem__")},
    )
    stamps = [stamp(shard) for shard in shards]
    try:
        return datasets.Dataset.from_generator(
            index, features=features, gen_kwargs=dict(shards=shards, stamps=stamps, columns=dict(columns))
        )
    except UNREADABLE as error:  # the library's own, around what has happened
        cause = next((each for each in causes(error) if isinstance(each, InputError)), None)
        text = str(cause or trouble_of_cache(error) or f"cannot be indexed: {shortened(first_line(error), 200)}")
        raise InputError(text if cause else f"{source}: {text}") from error


def index(shards: list[str], stamps: list[str], columns: dict) -> Iterator[dict]:
    """The rows of `open_shards`; the stamps are part of the key under which they are kept."""
    for shard in shards:
        for _, sample in read_samples(shard, lazily=True):
            own = {name: sample[name] for name in ("image", "__key__", "__shard__", "__problem__")}
            yield own | fitted(sample, columns)


def stamp(shard: str) -> str:
    """What changes when a shard does. Raises InputError for one that is not there."""
    try:
        system, path = fsspec.core.url_to_fs(shard)
        return str(system.ukey(path)) if "://" in shard else "{0.st_size} {0.st_mtime_ns}".format(Path(path).stat())
    except FileNotFoundError as error:
        raise InputError(f"{shard}: there is no such shard") from error
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{shard}: the shard cannot be reached: {shortened(first_line(error), 200)}") from error
