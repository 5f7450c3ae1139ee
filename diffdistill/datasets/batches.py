"""Batches of one aspect bucket, over ranks and epochs."""

import math
from collections.abc import Iterator

import numpy as np
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from diffdistill.errors import InputError, warn_once
from diffdistill.registry import DATA_SAMPLERS

from .buckets import kept_share


@DATA_SAMPLERS.register_module()
class AspectBatchSampler(Sampler):
    """Batches of samples of one size, in which every sample comes once an epoch, on one rank.

    The samples of a bucket are dealt out evenly to as few batches as hold them, and to more until all ranks have the same
    number: so batches are at most `batch_size` samples, and nothing is padded, dropped or seen twice. (Only where every
    batch is a single sample may a few be repeated, to give each rank its last.) The order is a function of seed and epoch,
    of which `len` is the number of batches on each rank; so a run can start at any batch.

    Args:
        sampler: `InfiniteSampler`, whose batches go on from epoch to epoch, or `DefaultSampler`. Its seed and whether it
            shuffles count, and its data set, which tells the sizes of its items by `item_sizes`.
        batch_size: the most samples in a batch.

    Attributes:
        first: the number of the batch at which the next iteration starts.

    Raises:
        InputError: the data set does not tell sizes, or has items of two pictures.
    """

    def __init__(self, sampler: Sampler, batch_size: int = 1):
        if not isinstance(sampler, InfiniteSampler | DefaultSampler):
            raise InputError("AspectBatchSampler needs sampler.type='InfiniteSampler', or 'DefaultSampler'")
        self.sampler, self.batch_size, self.first = sampler, batch_size, 0
        self.rank, self.ranks = get_dist_info()
        dataset = sampler.dataset
        if not hasattr(dataset, "item_sizes"):
            raise InputError(
                f"AspectBatchSampler: {type(dataset).__name__} does not tell the sizes of its items (item_sizes); use"
                " CaptionedImages, or drop batch_sampler"
            )
        sizes = dataset.item_sizes()
        if len(sizes) != len(dataset):
            raise InputError("AspectBatchSampler: num_batch_per_epoch takes a part of the data set; set its split instead")
        buckets, self.bucket_of = np.unique(sizes, axis=0, return_inverse=True)
        self.bucket_of = self.bucket_of.reshape(-1)
        self.counts = np.bincount(self.bucket_of)
        self.buckets = list(map(tuple, buckets.tolist()))
        self.batches_of = deal(self.counts, batch_size, self.ranks)
        self.warn_of_small()

    def warn_of_small(self) -> None:
        """Warn of buckets with fewer pictures than a batch, in one line."""
        small = np.flatnonzero(self.counts < self.batch_size)
        if len(small) and len(self.counts) > 1:
            named = ", ".join(f"{self.buckets[i][0]}x{self.buckets[i][1]} ({self.counts[i]})" for i in small[:5])
            warn_once(
                f"{len(small)} of {len(self.counts)} aspect buckets have fewer pictures than a batch of {self.batch_size}:"
                f" {named}{', ...' * (len(small) > 5)}; their batches are smaller. A larger step or a smaller max_aspect of"
                " BucketCrop makes fewer buckets"
            )

    @property
    def smallest(self) -> int:
        """The number of samples in the smallest batch."""
        return int((self.counts // self.batches_of).min())

    def figures(self) -> dict:
        """Figures of the log and of a run: `samples`, `batches` of an epoch on each rank, the samples of each of `buckets`.

        `lost` is the mean share of a picture that is cropped, `lost_to_squares` what it would be if all became squares; they
        are None where nobody knows how large the pictures were, as of encoded ones.
        """
        dataset, lost, square = self.sampler.dataset, None, None
        items = dataset.item_sizes()
        if hasattr(dataset, "picture_sizes"):
            pictures = dataset.picture_sizes()
            readable = pictures.all(1)
            lost, square = (float(1 - kept_share(pictures[readable], to).mean()) for to in (items[readable], np.ones(2)))
        counts = {f"{height}x{width}": int(n) for (height, width), n in zip(self.buckets, self.counts, strict=True)}
        return dict(samples=len(items), batches=len(self), lost=lost, lost_to_squares=square, buckets=counts)

    def __len__(self) -> int:
        """The number of batches of an epoch on each rank."""
        return math.ceil(self.batches_of.sum() / self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = divmod(self.first, len(self))
        self.first = 0
        epoch += getattr(self.sampler, "epoch", 0)
        yield from self.batches(epoch, first)
        while isinstance(self.sampler, InfiniteSampler):
            epoch += 1
            yield from self.batches(epoch)

    def batches(self, epoch: int, first: int = 0) -> Iterator[list[int]]:
        """The batches of this rank in an `epoch`, from number `first` on: indices of samples."""
        rng = np.random.default_rng([self.sampler.seed, epoch])
        shuffled = rng.permutation if self.sampler.shuffle else np.arange
        samples = shuffled(len(self.bucket_of))
        samples = samples[np.argsort(self.bucket_of[samples], kind="stable")]  # bucket by bucket
        ends = np.cumsum(np.concatenate([sizes_of(*each) for each in zip(self.counts, self.batches_of, strict=True)]))
        starts = np.concatenate([[0], ends[:-1]])
        order = shuffled(len(ends))
        order = np.resize(order, len(self) * self.ranks)  # repeats the first batches where there are too few
        for number in order[self.rank :: self.ranks][first:]:
            yield samples[starts[number] : ends[number]].tolist()


def deal(counts: np.ndarray, batch_size: int, ranks: int) -> np.ndarray:
    """In how many batches of at most `batch_size` each bucket is dealt out, its samples being `counts` (K,).

    They are as few as can be whose sum is a multiple of `ranks`; the largest batches are divided first.
    """
    batches = -(-counts // batch_size)
    for _ in range(-int(batches.sum()) % ranks):
        largest = np.argmax(counts / batches)
        if batches[largest] < counts[largest]:
            batches[largest] += 1
    return batches


def sizes_of(samples: int, batches: int) -> np.ndarray:
    """How many of `samples` go into each of so many `batches`: all alike, but for one more in the first of them."""
    return np.full(batches, samples // batches) + (np.arange(batches) < samples % batches)
