"""Batches that follow from (seed, rank, n): whichever is the first, however many workers load them, and none is replayed."""

import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from diffdistill.engine.feed import Feed
from diffdistill.engine.seeding import reseed


class Draws(Dataset):
    """Items that say which they are, and what the three generators give to them. `asked` counts what was loaded here."""

    def __init__(self, length: int = 10):
        self.length, self.asked = length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> list[float]:
        self.asked += 1
        return [index, random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002


def feed(dataset=None, first=0, workers=0, seed=1, rank=0, sampler=InfiniteSampler, size=3) -> Feed:
    dataset = dataset or Draws()
    loader = DataLoader(dataset, size, sampler=sampler(dataset, seed=5), num_workers=workers, collate_fn=list)
    found = Feed(loader, 0)
    found.start(first, seed, rank)
    return found


def take(batches: Feed, count: int) -> list:
    found = [next(batches) for _ in range(count)]
    batches.end()
    return found


@pytest.mark.parametrize("sampler", [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize("workers", [0, 2])
def test_any_batch_may_be_the_first_and_is_what_it_would_have_been(workers, sampler):
    """Ten samples by threes: the fifth batch is in the second epoch."""
    straight = take(feed(sampler=sampler), 9)
    dataset = Draws()
    resumed = take(feed(dataset, first=5, workers=workers, sampler=sampler), 9)
    assert resumed == [None] * 5 + straight[5:]
    assert straight[0] != straight[5]
    assert dataset.asked == (0 if workers else sum(map(len, straight[5:])))


def test_an_epoch_holds_every_sample_and_the_next_has_another_order():
    batches = take(feed(sampler=DefaultSampler), 8)
    epochs = [[row[0] for batch in part for row in batch] for part in (batches[:4], batches[4:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_a_batch_sampler_of_ones_own_is_advanced_and_told_the_epoch():
    class Turning(BatchSampler):
        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            yield from ([self.epoch, index] for index in range(2))

    dataset = Draws()
    batches = Feed(DataLoader(dataset, batch_sampler=Turning(range(4), 2, False), collate_fn=list), seed=0)
    batches.start(3, 0, 0)
    found = take(batches, 6)
    assert [[row[0] for row in batch] for batch in found[3:]] == [[1, 1], [2, 0], [2, 1]]
    assert dataset.asked == 6


@pytest.mark.parametrize(("seed", "rank"), [(1, 1), (2, 0)])
def test_ranks_and_seeds_draw_numbers_of_their_own(seed, rank):
    one, other = take(feed(), 3), take(feed(seed=seed, rank=rank), 3)
    drawn = [{row[3] for batch in batches for row in batch} for batches in (one, other)]
    assert len(drawn[0]) == 9
    assert not drawn[0] & drawn[1]


def test_a_step_without_workers_draws_on_behind_its_items():
    """As it did when published figures were made."""
    next(feed())
    drawn = torch.rand(())
    reseed(1, 0, 0)
    assert torch.rand(4)[3] == drawn


def test_a_step_with_workers_draws_other_numbers_than_its_items():
    batches = feed(workers=1)
    items = next(batches)
    drawn = torch.rand(1000)
    batches.end()
    assert not {row[3] for row in items} & set(drawn.tolist())
    batches = feed(workers=1)
    next(batches)
    torch.rand(7)
    batches.end()
    again = feed(workers=1)
    next(again)
    assert torch.equal(torch.rand(1000), drawn)
    again.end()


def test_the_workers_start_with_the_first_batch_that_is_asked_for():
    batches = feed(workers=2, first=4)
    assert [next(batches) for _ in range(4)] == [None] * 4
    assert batches.batches is None
    assert next(batches)
    batches.end()


def test_an_empty_sampler_ends():
    dataset = Draws(2)
    batches = Feed(DataLoader(dataset, 3, drop_last=True, collate_fn=list), seed=0)
    with pytest.raises(StopIteration):
        next(batches)
