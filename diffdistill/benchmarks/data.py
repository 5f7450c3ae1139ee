"""How many pictures a second a worker makes of files, beside a plain loop."""

import io
import itertools
import statistics

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from diffdistill.benchmarks.machine import machine
from diffdistill.benchmarks.timing import Part, interleave, median_ratio
from diffdistill.config.stages import last_stage
from diffdistill.datasets import CaptionedImages, ResizeCrop
from diffdistill.datasets.pictures import picture_of
from diffdistill.errors import InputError
from diffdistill.registry import DATASETS, build_part

IN_A_ROUND = 8  # pictures


class Loading:
    """The pictures of a data set in turn, loaded by its own pipeline or by a plain loop."""

    def __init__(self, dataset: CaptionedImages, size: tuple[int, int]):
        self.dataset, (self.height, self.width) = dataset, size
        self.indices, self.now = itertools.cycle(range(len(dataset))), []

    def choose(self) -> None:
        """Choose the pictures of the next round."""
        self.now = [next(self.indices) for _ in range(IN_A_ROUND)]

    def ours(self) -> list[torch.Tensor]:
        """Load the pictures as a worker of a run does."""
        return [self.dataset[index]["pixel_values"] for index in self.now]

    def plain(self) -> list[torch.Tensor]:
        """Load them as the training examples of diffusers do: resize the whole picture, crop, flip, to a tensor."""
        return [self.plain_item(index) for index in self.now]

    def plain_item(self, index: int) -> torch.Tensor:
        """One picture, float32 (3, height, width) in [-1, 1]."""
        found = picture_of(self.dataset.rows[index][self.dataset.image_column], self.dataset.folder)
        image = Image.open(io.BytesIO(found) if isinstance(found, bytes) else found).convert("RGB")
        scale = max(self.height / image.height, self.width / image.width)
        wide, high = (max(least, round(side * scale)) for least, side in
                      ((self.width, image.width), (self.height, image.height)))  # fmt: skip
        image = image.resize((wide, high), Image.Resampling.LANCZOS)
        left, top = (wide - self.width) // 2, (high - self.height) // 2
        image = image.crop((left, top, left + self.width, top + self.height))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        values = np.asarray(image, dtype=np.float32) / 255
        return torch.from_numpy((values - 0.5) / 0.5).permute(2, 0, 1).contiguous()


def measure_data(config: Config, rounds: int = 20, warmup: int = 2) -> dict:
    """Pictures a second that one worker makes of the config's training set, and a plain loop of the same files.

    Both run in turn in every round, on the same pictures. Raises InputError for a set that is no `CaptionedImages`, or whose
    pipeline has no `ResizeCrop`.
    """
    for key, value in dict(rounds=rounds, warmup=warmup).items():
        if value < 1:
            raise InputError(f"--{key} {value}: give 1 or more")
    dataset = build_part(DATASETS, last_stage(config).train_dataloader.dataset, "train_dataloader.dataset")
    crop = next((each for each in getattr(dataset, "pipeline", ()) if isinstance(each, ResizeCrop)), None)
    if not isinstance(dataset, CaptionedImages) or crop is None:
        raise InputError("train_dataloader.dataset: what is measured is a CaptionedImages with a ResizeCrop in its pipeline")
    loading = Loading(dataset, crop.sizes[0])
    parts = dict(plain=Part(loading.plain, loading.choose), ours=Part(loading.ours))
    torch.manual_seed(0)
    times, _ = interleave(parts, rounds, warmup, "cpu", "data")
    rows = [
        dict(
            part=name,
            pictures_per_second=IN_A_ROUND / statistics.median(times[name]),
            of_plain=median_ratio(times["plain"], times[name]),
        )
        for name in parts
    ]
    return dict(rows=rows, size=list(crop.sizes[0]), rounds=rounds, pictures=len(dataset), machine=machine("cpu"))
