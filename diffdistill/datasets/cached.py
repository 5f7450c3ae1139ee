"""A training set whose pictures are encoded already: the items of another one, drawn alike, from a cache."""

from collections.abc import Mapping

import numpy as np
import torch
from mmengine.config import ConfigDict
from torch import Tensor
from torch.utils.data import Dataset

from diffdistill.errors import InputError
from diffdistill.registry import DATASETS, TRANSFORMS

from .cache import BAD, Cache
from .skipping import BadSampleError, lines_of, most_skipped, sample_name, too_many
from .transforms import CaptionDropout, RandomFlip


@DATASETS.register_module()
class CachedDataset(Dataset):
    """The items of a data set from a `Cache` of it. `cached_loader` puts it in that set's place.

    An item has `latent_mean` and `latent_std` (C, h, w) where the set it stands for has `pixel_values`, and else the same:
    the same captions are drawn, pictures mirrored and bad rows replaced for the same random numbers.

    Args:
        cache: its folder.
        pipeline: configs of the transforms of the other set. Those that draw are drawn; what the others do is in the cache.
        max_skipped: the share of the rows that may be skipped.
    """

    def __init__(self, cache: str, pipeline: list[dict] = (), max_skipped: float = 0.01):
        self.cache = Cache(cache)
        self.source = self.cache.layout["source"]
        self.pipeline = [TRANSFORMS.build(transform) for transform in pipeline]
        self.max_skipped, self.most_skipped = max_skipped, most_skipped(max_skipped, len(self.cache))

    def __len__(self) -> int:
        return len(self.cache)

    def item_sizes(self) -> np.ndarray:
        """Height and width (N, 2) of the picture that item i has, in pixels."""
        return self.cache.item_sizes()

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f"CachedDataset: index {index} is not in [0, {len(self)})")
        row, caption, skipped = self.usable(index)
        mirrored = False
        for transform in self.pipeline:
            if isinstance(transform, RandomFlip):
                mirrored = transform.draw()
            elif isinstance(transform, CaptionDropout):
                caption = transform({"caption": caption})["caption"]
        found = self.cache.picture(row, mirrored)
        latents = {f"latent_{name}": found.pop(name) for name in self.cache.index["moments"]}
        return latents | found | {"caption": caption, "sample": sample_name(row, None), "skipped": lines_of(skipped)}

    def usable(self, index: int) -> tuple[int, str, list[BadSampleError]]:
        """The row to use for `index`, its caption, and the rows before it that cannot be used.

        It is the next one whose picture has the same size, so that those of one batch can be stacked.
        """
        skipped, sizes = [], self.cache.item_sizes()
        for step in range(len(self)):
            row = (index + step) % len(self)
            if (sizes[row] != sizes[index]).any():
                continue
            try:
                return row, self.read(row), skipped
            except BadSampleError as bad:
                skipped.append(bad)
            if len(skipped) > self.most_skipped:
                break
        raise too_many(self.source, len(skipped), len(self), self.max_skipped, str(skipped[-1]))

    def read(self, row: int) -> str:
        """The caption of `row`; of several, one drawn at random. Raises BadSampleError where the row cannot be used."""
        numbers, drawn = self.cache.texts.of_row(row), 0
        if self.cache.layout["several"] and len(numbers):  # drawn before its picture is read, even of a bad row
            drawn = int(torch.randint(len(numbers), ()))
        if record := self.cache.skipped.get(row):
            raise BadSampleError(**record)
        if numbers[drawn] == BAD:
            raise BadSampleError(self.source, row, None, "the caption that was drawn is not text")
        return self.cache.texts[numbers[drawn]]


def check_cacheable(pipeline: list, where: str) -> None:
    """Raise InputError for transforms whose result for a row is not always the same, mirroring aside."""
    flips = [transform for transform in pipeline if isinstance(transform, RandomFlip)]
    if len(flips) > 1:
        raise InputError(f"{where} has {len(flips)} RandomFlip, and a cache has one mirrored copy; leave one")
    for number, transform in enumerate(pipeline):
        if isinstance(transform, (RandomFlip, CaptionDropout)):
            continue
        name, at = type(transform).__name__, f"{where}.{number}"
        if not hasattr(transform, "random"):
            raise InputError(
                f"{at} ({name}) may draw at random, which cannot be cached; give its class `random = False` if it does not"
            )
        if transform.random:
            raise InputError(
                f"{at} ({name}) draws at random, and a cache holds one result for each picture; let it draw nothing"
                " (crop='center'), or train without a cache"
            )


def cached_loader(config: Mapping) -> Mapping:
    """The `train_dataloader` of a config, its data set a `CachedDataset` where the config has a `data_cache`."""
    loader = config["train_dataloader"]
    if not config.get("data_cache"):
        return loader
    dataset = loader["dataset"]
    given = {key: dataset[key] for key in ("pipeline", "max_skipped") if key in dataset}
    return ConfigDict({**loader, "dataset": dict(type="CachedDataset", cache=str(config["data_cache"]), **given)})


def is_cached(batch: Mapping[str, Tensor]) -> bool:
    """Whether a batch holds moments in the place of pictures."""
    return "latent_mean" in batch
