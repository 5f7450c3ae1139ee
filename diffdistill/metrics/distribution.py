"""How pictures are distributed in the features of Inception-v3: FID, KID and Inception Score, computed by torchmetrics."""

import hashlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from torch import Tensor

from diffdistill.datasets.sources import first_line
from diffdistill.errors import InputError
from diffdistill.files import check_no_pickle, pickles_allowed
from diffdistill.metrics.features import LIKE, InceptionMetric, ReferenceMetric, with_features
from diffdistill.registry import METRICS

LARGEST = 256 * 2**20  # bytes of an array of statistics; Inception's 2048 features have a covariance of 32 MiB


@METRICS.register_module()
class FID(ReferenceMetric):
    """Fréchet Inception distance (Heusel et al., 2017, arXiv:1706.08500, sec. 1) to reference pictures: `fid`.

    Args:
        reference: a folder of pictures; the statistics of one, a `.npz` file with `mu` (D,) and `sigma` (D, D), as
            pytorch-fid writes it; or "teacher" for its pictures of the same captions (a folder of that name is "./teacher").
        weights, resize, like: see InceptionMetric.
    """

    def __init__(
        self,
        reference: str,
        weights: str,
        resize: int | None = None,
        like: str = LIKE[0],
        prefix: str | None = None,
    ):
        super().__init__(reference, weights, resize=resize, like=like, prefix=prefix)

    def find_reference(self) -> list[Path]:
        """The pictures of the reference folder; none where it is a file of statistics, which is read instead.

        Raises InputError for a file without `mu` and `sigma`.
        """
        if not self.reference.endswith(".npz"):
            return super().find_reference()
        key = f"FID.reference={self.reference}"
        try:
            self.mu, self.sigma = read_statistics(Path(self.reference).expanduser())
        except (OSError, KeyError, TypeError, ValueError, BadZipFile) as error:
            if "pickle" in str(error):
                check_no_pickle(self.reference, key)
            raise InputError(f"{key}: no statistics with mu and sigma ({first_line(error)})") from None
        return []

    def settings(self) -> dict:
        if self.files or self.needs_teacher:
            return super().settings()
        digest = hashlib.sha256(self.mu.numpy().tobytes() + self.sigma.numpy().tobytes()).hexdigest()[:8]
        return dict(super().settings(), reference=f"{Path(self.reference).name} ({digest})")

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        from torchmetrics.image.fid import FrechetInceptionDistance

        if len(results) < 2:
            raise InputError("FID: one picture has no covariance; validate with 2 captions or more")
        if self.files or self.needs_teacher:
            fake, real = self.features(results)
        else:
            fake, real = torch.stack(results).double(), None
        fid = with_features(FrechetInceptionDistance, fake.shape[1])
        fid.update(fake, real=False)
        if real is not None:
            fid.update(real, real=True)
        else:  # the sums over two samples that have this mean and this covariance
            fid.real_features_num_samples += 2
            fid.real_features_sum += 2 * self.mu
            fid.real_features_cov_sum += self.sigma + 2 * torch.outer(self.mu, self.mu)
        return dict(fid=fid.compute().item())


def read_statistics(file: Path) -> tuple[Tensor, Tensor]:
    """`mu` (D,) and `sigma` (D, D) of a `.npz` file, fp64. Raises ValueError for arrays of another shape or size."""
    with ZipFile(file) as members:
        if max(member.file_size for member in members.infolist()) > LARGEST:
            raise ValueError(f"an array is larger than {LARGEST >> 20} MiB")
    with np.load(file, allow_pickle=pickles_allowed()) as statistics:
        mu, sigma = (torch.from_numpy(statistics[name]).double() for name in ("mu", "sigma"))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"mu is {tuple(mu.shape)} and sigma {tuple(sigma.shape)}, not (D,) and (D, D)")
    return mu, sigma


@METRICS.register_module()
class KID(ReferenceMetric):
    """Kernel Inception distance (Bińkowski et al., 2018, arXiv:1801.01401, sec. 4): mean `kid` over subsets, and `kid_std`.

    The unbiased estimate of the squared MMD with the cubic kernel (x y / D + 1)^3; it may be below 0.

    Args:
        reference: a folder of pictures, or "teacher"; see FID. (Statistics would not do: KID needs the features.)
        subsets, subset_size: how many subsets of how many pictures, drawn with a fixed seed; the size is at most that of the
            smaller set.
        weights, resize, like: see InceptionMetric.
    """

    def __init__(
        self,
        reference: str,
        weights: str,
        subsets: int = 100,
        subset_size: int = 1000,
        resize: int | None = None,
        like: str = LIKE[0],
        prefix: str | None = None,
    ):
        super().__init__(reference, weights, resize=resize, like=like, prefix=prefix)
        if subsets < 1 or subset_size < 2:
            raise InputError(f"KID: subsets={subsets} of subset_size={subset_size}; give at least 1 of at least 2 pictures")
        self.subsets, self.subset_size = subsets, subset_size

    def settings(self) -> dict:
        return dict(super().settings(), subsets=f"{self.subsets} of {self.subset_size}")

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        from torchmetrics.image.kid import KernelInceptionDistance

        fake, real = self.features(results)
        size = min(self.subset_size, len(fake), len(real))
        kid = with_features(KernelInceptionDistance, fake.shape[1], subsets=self.subsets, subset_size=size)
        kid.update(fake, real=False)
        kid.update(real, real=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            mean, spread = kid.compute()
        return dict(kid=mean.item(), kid_std=spread.item())


@METRICS.register_module()
class InceptionScore(InceptionMetric):
    """Inception Score (Salimans et al., 2016, arXiv:1606.03498, sec. 4): the mean `inception_score` over splits, and the
    standard deviation `inception_score_std` where there are several.

    exp(E_x KL(p(y|x) || p(y))) from logits without their bias, pictures shuffled with a fixed seed.

    Args:
        splits: parts of the pictures that are scored apart; the score depends on their size.
        weights, resize, like: see InceptionMetric.
    """

    output = 1

    def __init__(
        self,
        weights: str,
        splits: int = 10,
        resize: int | None = None,
        like: str = LIKE[0],
        prefix: str | None = None,
    ):
        super().__init__(weights, resize, like, prefix)
        if splits < 1:
            raise InputError(f"InceptionScore.splits={splits} must be at least 1")
        self.splits = splits

    def settings(self) -> dict:
        return dict(super().settings(), splits=self.splits)

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        from torchmetrics.image.inception import InceptionScore as Score

        score = with_features(Score, len(results[0]), splits=min(self.splits, len(results)))
        score.update(torch.stack(results).double())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            mean, spread = score.compute()
        figures = dict(inception_score=mean.item())
        return figures if spread.isnan() else figures | dict(inception_score_std=spread.item())
