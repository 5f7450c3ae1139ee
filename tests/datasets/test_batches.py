"""Batches of one aspect bucket, over ranks and epochs."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from PIL import Image
from tiny import write_pictures

from diffdistill import errors
from diffdistill.datasets import AspectBatchSampler
from diffdistill.datasets.batches import deal
from diffdistill.engine.runner import build_dataloader
from diffdistill.errors import InputError

PIPELINE = [dict(type="BucketCrop", size=32, step=8), dict(type="PackInputs")]


class Sized:
    """A data set of items of the given sizes, without the items."""

    def __init__(self, sizes):
        self.sizes = np.array(sizes)

    def __len__(self):
        return len(self.sizes)

    def item_sizes(self):
        return self.sizes


def batches_on(ranks, dataset, batch_size, monkeypatch, sampler=DefaultSampler, **options):
    """The batch samplers of `ranks` ranks, as each of them makes its own."""
    made = []
    for rank in range(ranks):
        monkeypatch.setattr("diffdistill.datasets.batches.get_dist_info", lambda rank=rank: (rank, ranks))
        made.append(AspectBatchSampler(sampler(dataset, seed=3, **options), batch_size))
    return made


MIXED = [(32, 32)] * 17 + [(24, 40)] * 9 + [(40, 24)] * 1 + [(16, 64)] * 4


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_every_sample_comes_once_an_epoch(ranks, batch_size, monkeypatch):
    dataset = Sized(MIXED)
    samplers = batches_on(ranks, dataset, batch_size, monkeypatch)
    epochs = [list(sampler) for sampler in samplers]
    assert {len(batches) for batches in epochs} == {len(sampler) for sampler in samplers} == {len(samplers[0])}
    seen = Counter(index for batches in epochs for batch in batches for index in batch)
    repeated = -len(MIXED) % ranks if batch_size == 1 else 0
    assert set(seen) == set(range(len(MIXED)))
    assert sum(seen.values()) == len(MIXED) + repeated
    for batches in epochs:
        for batch in batches:
            assert 1 <= len(batch) <= batch_size
            assert len({tuple(dataset.sizes[index]) for index in batch}) == 1


def test_batches_are_dealt_out_evenly():
    assert deal(np.array([17, 9, 1]), 8, 1).tolist() == [3, 2, 1]
    assert deal(np.array([17, 9, 1]), 8, 4).tolist() == [4, 3, 1]
    assert deal(np.array([2, 1]), 1, 2).tolist() == [2, 1]  # there is nothing to divide


def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch):
    (one,), (other,) = (batches_on(1, Sized(MIXED), 4, monkeypatch) for _ in range(2))
    assert list(one) == list(other)
    assert list(one.batches(0)) == list(one.batches(0)) != list(one.batches(1))
    assert any(sorted(a) != sorted(b) for a, b in zip(one.batches(0), one.batches(1), strict=True))
    other.sampler.seed = 4
    assert list(other.batches(0)) != list(one.batches(0))
    (still,) = batches_on(1, Sized(MIXED), 4, monkeypatch, shuffle=False)
    assert list(still.batches(0)) == list(still.batches(1))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_can_start_at_any_batch(ranks, monkeypatch):
    for sampler in batches_on(ranks, Sized(MIXED), 4, monkeypatch, InfiniteSampler):
        endless, length = iter(sampler), len(sampler)
        whole = [next(endless) for _ in range(3 * length)]
        assert whole[length : 2 * length] == list(sampler.batches(1))
        for first in (1, length - 1, length, 2 * length + 1):
            sampler.first = first
            later = iter(sampler)
            assert [next(later) for _ in range(2)] == (whole + list(sampler.batches(3)))[first : first + 2]


def test_default_sampler_says_which_epoch_it_is(monkeypatch):
    (sampler,) = batches_on(1, Sized(MIXED), 4, monkeypatch)
    sampler.sampler.set_epoch(5)
    assert list(sampler) == list(sampler.batches(5))


def test_small_buckets_are_named_in_one_line(monkeypatch, caplog):
    errors.warn_once.cache_clear()
    batches_on(1, Sized(MIXED), 8, monkeypatch)
    (line,) = caplog.messages
    assert "2 of 4 aspect buckets have fewer pictures than a batch of 8: 16x64 (4), 40x24 (1); their batches" in line


def test_what_the_sampler_cannot_do_is_named(monkeypatch):
    with pytest.raises(InputError, match="list does not tell the sizes of its items"):
        batches_on(1, [1, 2], 8, monkeypatch)
    with pytest.raises(InputError, match="needs sampler"):
        AspectBatchSampler(SimpleNamespace(dataset=Sized(MIXED)))


def test_a_loader_of_mixed_pictures_pads_nothing(tmp_path):
    sizes = [(32, 32), (40, 24), (24, 40), (64, 16), (33, 31)] * 4
    folder = tmp_path / "data"
    write_pictures(folder, sizes)
    for number, (width, height) in enumerate(sizes):
        Image.new("RGB", (width, height), "white").save(folder / f"{number:03d}.png")
    loader = build_dataloader(
        dict(
            batch_size=3,
            dataset=dict(type="CaptionedImages", source=str(folder), pipeline=PIPELINE),
            sampler=dict(type="DefaultSampler", shuffle=True),
            batch_sampler=dict(type="AspectBatchSampler"),
            collate_fn=dict(type="default_collate"),
        ),
        seed=0,
    )
    seen, shapes = Counter(), Counter()
    for batch in loader:
        seen.update(batch["caption"])
        shapes[tuple(batch["pixel_values"].shape[2:])] += len(batch["caption"])
        assert (batch["pixel_values"] == 1).all(), "a pixel is padded"
    assert len(loader) == len(list(loader.batch_sampler))
    assert set(seen.values()) == {1}
    assert len(seen) == 20
    assert shapes == {(32, 32): 8, (24, 40): 4, (40, 24): 4, (16, 64): 4}
