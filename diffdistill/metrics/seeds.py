"""What a model makes of one caption from several seeds: whether it still draws different pictures, and how different."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import get_world_size
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.metrics.base import Metric
from diffdistill.metrics.caption_accuracy import check_pictures
from diffdistill.metrics.encoders import Encoder
from diffdistill.metrics.record import COLLAPSED
from diffdistill.registry import METRICS
from diffdistill.shapes import oracle, world

STRIDE = 100_003  # between the seeds of one caption


def further_seeds(seeds: Sequence[int], number: int) -> list[int]:
    """The seeds of the pictures `number` of some captions, those of the validation being number 0."""
    return [int(seed) + number * STRIDE for seed in seeds]


class SeedMetric(Metric):
    """Looks at pictures of one caption from several seeds: that of the validation, and more that it has the model draw.

    Validation itself, and with it every other figure, stays as it is.

    Args:
        captions: how many are taken, the first ones (of each process its share).
        seeds_per_caption: how many pictures each has.
    """

    needs_model = True

    def __init__(self, captions: int = 16, seeds_per_caption: int = 16, prefix: str | None = None):
        super().__init__(prefix)
        name = type(self).__name__
        if captions < 1:
            raise InputError(f"{name}.captions={captions} must be at least 1")
        if seeds_per_caption < 2:
            raise InputError(f"{name}.seeds_per_caption={seeds_per_caption}: one picture has no spread; give 2 or more")
        self.captions, self.seeds_per_caption = captions, seeds_per_caption

    def settings(self) -> dict:
        return dict(captions_over_seeds=self.captions, seeds_per_caption=self.seeds_per_caption)

    def takes(self, sample: dict) -> bool:
        """Whether the caption of a sample is one to look at."""
        return True

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Take in samples with `image`, uint8 (H, W, 3), `caption` and `seed`, until there are enough."""
        room = -(-self.captions // get_world_size()) - len(self.results)
        if taken := [sample for sample in data_samples if self.takes(sample)][: max(room, 0)]:
            self.results += self.look([sample["caption"] for sample in taken], taken)

    def look(self, captions: list[str], samples: Sequence[dict]) -> list:
        """What is kept of each of the captions of `samples`."""
        raise NotImplementedError

    def drawn(self, captions: list[str], samples: Sequence[dict], teacher: bool = False) -> list[np.ndarray]:
        """Pictures (B, H, W, 3) of the captions: an array for each seed; of the teacher, or of what is measured."""
        seeds, own = [sample["seed"] for sample in samples], self.model.draws_teacher
        numbers = range(0 if teacher and not own else 1, self.seeds_per_caption)
        more = [self.model.sample(captions, further_seeds(seeds, number), teacher=teacher or own) for number in numbers]
        return more if numbers.start == 0 else [np.stack([sample["image"] for sample in samples]), *more]


@METRICS.register_module()
class PositionEntropy(SeedMetric):
    """Entropy in bits of the position of the object, over seeds of a caption of the shapes world that leaves it open.

    `position_entropy` is the mean over captions: 0 where every seed gives the same position, log2(5) = 2.32 where the five
    are equally likely. With n_i of a caption's n pictures at position i, it is estimated by
    sum_i n_i / n (1 / n_i + 1 / (n_i + 1) + ... + 1 / (n - 1)) (Zhang, 2012, Neural Computation 24(5); Chao, Wang & Jost,
    2013, Methods Ecol. Evol. 4(11)), whose bias vanishes exponentially in n: for five equally likely positions -0.01 bits at
    n = 16 and -0.11 at n = 8, where that of plain frequencies is -0.20 and -0.43.

    The oracle reads the positions. Pictures in which it finds no shape are left out, and so are captions of which these are
    more than half; where no caption is left there is no figure. Raises InputError for a caption of another world, or
    pictures of another size.
    """

    def takes(self, sample: dict) -> bool:
        return not sample.get("star") and world.parse(sample["caption"]).position is None

    def look(self, captions: list[str], samples: Sequence[dict]) -> list[list[int]]:
        column = oracle.FIELDS.index("position")
        check_pictures([sample["image"] for sample in samples], "PositionEntropy")
        found = np.stack([oracle.read(pictures)[:, column] for pictures in self.drawn(captions, samples)], 1)
        return [[int(position) for position in row if position >= 0] for row in found]

    def compute_metrics(self, results: list[list[int]]) -> dict[str, float]:
        read = [row for row in results[: self.captions] if len(row) >= max(2, self.seeds_per_caption / 2)]
        return dict(position_entropy=float(np.mean([entropy(row) for row in read]))) if read else {}


def entropy(outcomes: Sequence[int]) -> float:
    """The entropy in bits of what `outcomes` were drawn from; see `PositionEntropy`."""
    counts, total = np.unique(outcomes, return_counts=True)[1], len(outcomes)
    return float(sum(n * sum(1 / np.arange(n, total)) for n in counts) / total / np.log(2))


@METRICS.register_module()
class SeedSpread(SeedMetric):
    """How far apart the pictures of one caption are: the mean of 1 - cosine between their features, over all pairs.

    `seed_spread` is the mean over captions, 0 where the seed changes nothing; where a teacher is in memory and has any
    spread, `seed_spread_kept` is what that is of the teacher's own, in per cent. The teacher's is measured once.

    Args:
        checkpoint: folder or hub name of a vision model, such as DINOv2 or CLIP.
        captions, seeds_per_caption: see SeedMetric.
    """

    def __init__(self, checkpoint: str, captions: int = 16, seeds_per_caption: int = 8, prefix: str | None = None):
        super().__init__(captions, seeds_per_caption, prefix)
        self.encoder = Encoder(checkpoint, type(self).__name__)
        self.teachers: dict[tuple[str, int], float] = {}

    def settings(self) -> dict:
        return dict(super().settings(), weights=self.encoder.name)

    def look(self, captions: list[str], samples: Sequence[dict]) -> list[dict[str, float]]:
        found = [dict(ours=spread) for spread in self.spreads(self.drawn(captions, samples))]
        if self.model.teacher is None:
            return found
        keys = [(sample["caption"], int(sample["seed"])) for sample in samples]
        if self.model.draws_teacher:
            self.teachers.update(zip(keys, (row["ours"] for row in found), strict=True))
        elif any(key not in self.teachers for key in keys):
            theirs = self.spreads(self.drawn(captions, samples, teacher=True))
            self.teachers.update(zip(keys, theirs, strict=True))
        return [dict(row, theirs=self.teachers[key]) for row, key in zip(found, keys, strict=True)]

    def spreads(self, pictures: list[np.ndarray]) -> list[float]:
        """The mean of 1 - cosine over pairs of the pictures of each caption; an array (B, H, W, 3) for each seed."""
        features = torch.stack([self.encoder.of_pictures(list(each)) for each in pictures], 1).double()
        return spread(features).clamp(min=0).tolist()

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        ours, *theirs = (
            sum(row[name] for row in results[: self.captions]) / len(results[: self.captions]) for name in results[0]
        )
        if not theirs or theirs[0] < COLLAPSED["seed_spread"]:
            return dict(seed_spread=ours)  # a teacher without spread has none to keep
        return dict(seed_spread=ours, seed_spread_kept=100 * ours / theirs[0])


def spread(features: Tensor) -> Tensor:
    """The mean of 1 - cosine (B,) over pairs of the K features of length 1 in each row of (B, K, D)."""
    count = features.shape[1]
    return 1 - (features.sum(1).square().sum(-1) - count) / (count * (count - 1))
