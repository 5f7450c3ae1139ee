"""The batches of a training, of which any may be the first: what came before it is neither read nor decoded."""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mmengine.dist import all_gather_object
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from diffdistill.engine.seeding import reseed

OF_THE_STEP = 1  # with workers, a step draws its noise from words of its own: those of batch n are the items'
STREAM = "stream"  # the entry of the message hub, and so of checkpoints
# What the loader of a config hands on to the one that really loads.
KEPT = ("num_workers", "pin_memory", "timeout", "multiprocessing_context", "generator", "prefetch_factor", "worker_init_fn")


class Feed:
    """The batches of `loader` without end; batch n of a rank follows from (seed, rank, n), however many workers load it.

    It stands in the place of the loader, whose attributes it has. Where that ends an epoch, the next one begins. Of a
    stream, `positions` are the places that its parts have come to with the batches that were handed out.
    """

    def __init__(self, loader: DataLoader, seed: int, rank: int = 0):
        self.loader = loader
        self.start(0, seed, rank)

    def __getattr__(self, name: str):
        return getattr(self.loader, name)

    def start(self, first: int, seed: int, rank: int, parts: "Parts | None" = None) -> None:
        """Hand out nothing for the batches before `first`, which have been trained on, and then go on from there.

        Of a stream, `parts` say which of its parts this rank reads, and from where.
        """
        self.count, self.first, self.seed, self.rank = 0, first, seed, rank
        self.batches: Iterator | None = None
        self.streams = max(1, self.loader.num_workers)  # parts of a stream that a rank reads side by side
        self.parts = parts or Parts(seed)
        self.positions = self.parts.positions or [dict(epoch=self.parts.epoch)] * self.streams

    def __len__(self) -> int:
        """Batches of an epoch, for which MMEngine asks; that of a stream does not end."""
        return sys.maxsize if getattr(self.dataset, "streamed", False) else len(self.loader)

    def __iter__(self) -> "Feed":
        return self

    def __next__(self):
        number = self.count
        self.count += 1
        if number < self.first:
            return None  # MMEngine asks for the batches of the steps done once more, and looks at none of them
        if self.batches is None:
            self.batches = iter(self.open())
        reseed(self.seed, self.rank, number, *([OF_THE_STEP] if self.loader.num_workers else []))
        batch, position = next(self.batches)
        if position is not None:
            self.positions[number % self.streams] = position
        return batch

    def open(self) -> DataLoader:
        """The loader that really loads, from batch `first` on; its workers start with the first batch that is asked for."""
        streamed = getattr(self.loader.dataset, "streamed", False)
        source = Streamed if streamed else Indexed
        options = {name: getattr(self.loader, name) for name in KEPT}
        return DataLoader(
            source(self),
            batch_sampler=numbered_sizes(self) if streamed else numbered_indices(self.loader, self.first),
            collate_fn=Collate(self.loader.collate_fn),
            **options,
        )

    def end(self) -> None:
        """End the workers: the collector of garbage would wait five seconds for each of them.

        After an error it would never come: the error holds the iterator, and workers outlive the signal of Python's exit.
        """
        batches, self.batches = self.batches, None
        if hasattr(batches, "_shutdown_workers"):  # there is no public way
            batches._shutdown_workers()


@dataclass(frozen=True)
class Parts:
    """Which parts of a stream a rank reads, and where they go on: at `positions`, or else at the beginning of pass `epoch`.

    `seed` orders the shards; all ranks have the same.
    """

    seed: int
    rank: int = 0
    ranks: int = 1
    epoch: int = 0
    positions: list[dict] | None = None


class Indexed:
    """What workers load batches of a map-style set from: a request is the number of a batch and its indices."""

    def __init__(self, feed: Feed):
        self.dataset, self.words = feed.loader.dataset, (feed.seed, feed.rank)

    def __getitems__(self, request: tuple[int, Sequence[int]]) -> tuple[list, None]:
        number, indices = request
        reseed(*self.words, number)
        together = getattr(self.dataset, "__getitems__", None)
        return (together(indices) if together else [self.dataset[index] for index in indices]), None


class Streamed:
    """What workers load batches of a stream from: batch n is the next one of part n % `streams`, which one worker reads."""

    def __init__(self, feed: Feed):
        self.dataset, self.words, self.parts = feed.loader.dataset, (feed.seed, feed.rank), feed.parts
        self.streams, self.positions, self.opened = feed.streams, list(feed.positions), {}

    def __getitems__(self, request: tuple[int, int]) -> tuple[list, dict]:
        number, size = request
        reseed(*self.words, number)
        which, parts = number % self.streams, self.parts
        if which not in self.opened:
            part, of = parts.rank * self.streams + which, parts.ranks * self.streams
            self.opened[which] = self.dataset.part(parts.seed, part, of, self.positions[which])
        stream = self.opened[which]
        return [next(stream) for _ in range(size)], stream.position


class Collate:
    """The collate function of a loader, beside which the position of a stream goes on as it is."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, fetched: tuple[list, dict | None]) -> tuple:
        items, position = fetched
        return self.collate(items), position


def numbered_indices(loader: DataLoader, first: int) -> Iterator[tuple[int, list[int]]]:
    """The batches of the sampler of `loader` with their numbers, from `first` on, epoch after epoch."""
    samplers = [loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    number, epochs = 0, itertools.count()
    if hasattr(loader.batch_sampler, "first"):  # it starts at any batch without making those before it
        loader.batch_sampler.first = number = first
        epochs = itertools.count(first // len(loader.batch_sampler))
    for epoch in epochs:
        begun = number
        for indices in loader.batch_sampler:
            if number >= first:
                yield number, indices
            number += 1
        if number == begun:
            return
        for sampler in samplers:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch + 1)


def numbered_sizes(feed: Feed) -> Iterator[tuple[int, int]]:
    """The numbers of the batches of a stream from the first one on, and how many samples each has."""
    for number in itertools.count(feed.first):
        yield number, feed.loader.batch_size


def begin(runner: Runner) -> None:
    """Let the training of `runner` start behind the steps that it has done, a stream where its checkpoint has left it."""
    feed, rank, ranks = runner.train_dataloader, runner.rank, runner.world_size
    shared = runner.seed - rank if runner._randomness_cfg.get("diff_rank_seed") else runner.seed
    parts = Parts(shared, rank, ranks)
    saved = runner.message_hub.get_info(STREAM, None) if runner.iter and getattr(feed.dataset, "streamed", False) else None
    if saved and changed(saved, layout(feed, ranks)):
        parts = replace(parts, epoch=1 + max(position["epoch"] for own in saved["positions"] for position in own))
        runner.logger.warning(
            f"the stream begins a new pass: {changed(saved, layout(feed, ranks))}, and its parts go by them; some samples of"
            " the pass that was under way come again, others not"
        )
    elif saved:
        parts = replace(parts, positions=saved["positions"][rank])
    feed.start(runner.iter, runner.seed, rank, parts)


def note_stream(runner: Runner) -> None:
    """Note for a checkpoint where the parts of a stream are, on all ranks; each of them must call it."""
    feed = runner.train_dataloader
    if getattr(feed.dataset, "streamed", False):
        positions = all_gather_object(feed.positions)
        runner.message_hub.update_info(STREAM, layout(feed, runner.world_size) | dict(positions=positions))


def layout(feed: Feed, ranks: int) -> dict:
    """What decides the parts of a stream, under the names that a reader of the log knows."""
    shards = feed.dataset.shards.names
    return dict(source=feed.dataset.source, shards=len(shards), ranks=ranks, workers=feed.streams)


def changed(before: Mapping, now: Mapping) -> str:
    """What differs between two layouts, as text; "" for nothing."""
    return ", ".join(f"{key} {before.get(key)!r} -> {value!r}" for key, value in now.items() if before.get(key) != value)
