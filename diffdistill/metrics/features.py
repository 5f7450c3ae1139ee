"""What metrics on Inception-v3 share: its weights, its features of the pictures, and those of reference pictures."""

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.metrics.base import Metric
from diffdistill.metrics.inception import Inception
from diffdistill.metrics.pictures import picture_files, read_picture, resized, to_batch
from diffdistill.metrics.record import TEACHER
from diffdistill.metrics.seeds import further_seeds

SOURCE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
LIKE = ("torch-fidelity", "pytorch-fid")
BATCH = 32


class InceptionMetric(Metric):
    """What FID, KID and Inception Score have in common.

    The features of a picture are kept in its record, so that metrics of the same settings share them.

    Args:
        weights: file of the weights, torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`.
        resize: side in pixels to which pictures (and those of a reference folder) are squeezed first; None: as they are.
        like: whose way from there to Inception's 299 x 299: "torch-fidelity" or "pytorch-fid".
    """

    output = 0  # of Inception: 0 the features, 1 the logits

    def __init__(self, weights: str, resize: int | None = None, like: str = LIKE[0], prefix: str | None = None):
        super().__init__(prefix)
        name = type(self).__name__
        if find_spec("torchmetrics") is None:
            raise InputError(f"{name} needs torchmetrics: pip install diffdistill[metrics]")
        if like not in LIKE:
            raise InputError(f"{name}.like={like!r} is unknown; use one of {', '.join(LIKE)}")
        if resize is not None and resize < 1:
            raise InputError(f"{name}.resize={resize} must be a number of pixels, or None")
        self.weights, self.resize, self.like = str(Path(weights).expanduser()), resize, like
        self.load(check_only=True)
        self.inception: nn.Module | None = None

    def settings(self) -> dict:
        return dict(weights=Path(self.weights).name, resize=self.resize, like=self.like)

    def load(self, check_only: bool = False) -> Inception:
        """Inception with its weights. Raises InputError, saying where to get them, if these are missing or do not fit."""
        key = f"{type(self).__name__}.weights={self.weights}"
        with torch.device("meta"):
            network = Inception(self.like).eval().requires_grad_(False)
        try:
            weights = torch.load(self.weights, map_location="cpu", weights_only=True, mmap=True)
            network.load_state_dict(weights, assign=True)
        except FileNotFoundError:
            raise InputError(f"{key}: no such file; download it from {SOURCE}") from None
        except Exception as error:  # a damaged file, or another one, fails in many ways
            raise InputError(f"{key} is not Inception's of 2015-12-05 ({type(error).__name__}); get {SOURCE}") from None
        return network if check_only else network.to(get_device())

    @torch.no_grad()
    def extract(self, pictures: Sequence[np.ndarray]) -> list[tuple[Tensor, Tensor]]:
        """Features (2048,) and logits (1008,) of every picture, fp32, on the CPU."""
        self.inception = self.inception or self.load()
        features, logits = self.inception(to_batch(pictures).to(get_device()))
        return list(zip(features.cpu(), logits.cpu(), strict=True))

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Take in samples with `image`, uint8 (H, W, 3)."""
        key = ("inception", self.weights, self.resize, self.like)
        if any(key not in sample for sample in data_samples):
            found = self.extract([resized(sample["image"], self.resize) for sample in data_samples])
            for sample, outputs in zip(data_samples, found, strict=True):
                sample[key] = outputs
        self.results += [sample[key][self.output] for sample in data_samples]


class ReferenceMetric(InceptionMetric):
    """Compares with the pictures of a folder, or with those of the teacher, whose features are kept for later validations.

    The teacher's are of the same captions, from seeds of their own. So its own figure is not 0 but the floor: what two sets
    of its pictures differ by.
    """

    needs_model = needs_teacher = False  # both where the reference is the teacher

    def __init__(self, reference: str, weights: str, **options):
        super().__init__(weights, **options)
        self.reference, self.real = str(reference), None
        self.needs_model = self.needs_teacher = self.reference == TEACHER
        self.drawn: dict[tuple[str, int], Tensor] = {}
        self.files = [] if self.needs_teacher else self.find_reference()

    def find_reference(self) -> list[Path]:
        """The pictures of the reference folder, sorted. Raises InputError where there are none."""
        return picture_files(self.reference, f"{type(self).__name__}.reference")

    def settings(self) -> dict:
        pictures = f"{len(self.files)} pictures of {Path(self.reference).name}"
        return dict(super().settings(), reference="the teacher, from other seeds" if self.needs_teacher else pictures)

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Take in samples with `image`, uint8 (H, W, 3); beside the teacher with `caption` and `seed`, too."""
        start = len(self.results)
        super().process(data_batch, data_samples)
        if self.needs_teacher:  # in pairs, so that several processes gather both
            self.results[start:] = zip(self.results[start:], self.of_teacher(data_samples), strict=True)

    @torch.no_grad()
    def of_teacher(self, samples: Sequence[dict]) -> list[Tensor]:
        """Features (D,) of the teacher's pictures for the captions of `samples`; drawn once."""
        keys = [(sample["caption"], int(sample["seed"])) for sample in samples]
        if any(key not in self.drawn for key in keys):
            shared = ("inception of the teacher", self.weights, self.resize, self.like)
            if shared not in samples[0]:
                captions, seeds = zip(*keys, strict=True)
                pictures = self.model.sample(captions, further_seeds(seeds, 1), teacher=True)
                outputs = self.extract([resized(picture, self.resize) for picture in pictures])
                samples[0][shared] = [out[self.output] for out in outputs]
            self.drawn.update(zip(keys, samples[0][shared], strict=True))
        return [self.drawn[key] for key in keys]

    def features(self, results: list) -> tuple[Tensor, Tensor]:
        """Features of the pictures that were processed and of the reference, (N, D) each, in fp64."""
        if self.needs_teacher:
            fake, real = zip(*results, strict=True)
            return torch.stack(fake).double(), torch.stack(real).double()
        return torch.stack(results).double(), self.real_features()

    def real_features(self) -> Tensor:
        """Features of the pictures of the reference folder, (N, D), in fp64; extracted once."""
        if self.real is None:
            batches = (self.files[start : start + BATCH] for start in range(0, len(self.files), BATCH))
            outputs = (out for files in batches for out in self.extract([read_picture(f, self.resize) for f in files]))
            self.real = torch.stack([out[self.output] for out in outputs]).double()
        return self.real


def with_features(metric: Callable[..., nn.Module], width: int, **options) -> nn.Module:
    """A torchmetrics metric that takes features (N, width) in place of pictures."""
    identity = nn.Identity()
    identity.num_features = width
    with warnings.catch_warnings():  # that features are kept in memory, which they are here anyway
        warnings.simplefilter("ignore")
        return metric(feature=identity, **options)
