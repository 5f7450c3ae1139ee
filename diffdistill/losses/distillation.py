"""The losses that compare with a teacher: its output and its features (Kim et al., 2023, BK-SDM, sec. 3.2, eqs. 2-3)."""

import torch.nn.functional as F
from torch import Tensor

from diffdistill.errors import InputError, check_range
from diffdistill.losses.base import Loss, PredictionLoss
from diffdistill.losses.distance import squared_error
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class OutputKD(PredictionLoss):
    """Distance of the student's prediction to the teacher's (eq. 2).

    The teacher answers for every sample alike, so `sample_weights`, which belong to the data, do not count here.
    """

    needs_teacher = True
    compares = True

    def score(self, step: Step) -> Tensor:
        return self.compare(step, step.teacher_prediction)


@MODELS.register_module()
class PriorKD(OutputKD):
    """`OutputKD` on class pictures alone: prior preservation by what the untuned model answers, not by its pictures.

    A picture is no answer of a student of few steps: at pure noise all pictures of a caption are equally far, and their mean
    is none of them. Class pictures are those that the data does not count, by `class_images.weight=0`; the mean over a
    batch is over them (Ruiz et al., 2023, DreamBooth, arXiv:2208.12242, eq. 2, with another target).
    """

    needs_prior = True

    def score(self, step: Step) -> Tensor:
        prior = step.sample_weights == 0
        return self.compare(step, step.teacher_prediction, prior * prior.numel() / prior.sum())


@MODELS.register_module()
class FeatureKD(Loss):
    """Distance of the student's features to the teacher's: the mean squared error of each pair, summed over pairs (eq. 3).

    As in `OutputKD`, `sample_weights` do not count.

    Args:
        normalize: True, or "power", divides each pair's error by the mean square of the teacher's feature, so that layers
            with large activations do not outweigh the others. "tokens" compares directions: every token's vector (of a
            picture's feature map every place's) is brought to length 1, and the squared distance of two of them is summed
            over channels, as PPCL does (Ma et al., 2025, arXiv:2511.16156, sec. 3.3).
        mask_outliers: leaves out elements whose activation in the teacher is more than so many standard deviations from
            their mean (TinyFusion: 2; Fang et al., 2024, arXiv:2412.01199, sec. 4.3).
    """

    needs_teacher = True
    needs_features = True

    def __init__(self, weight: float = 1.0, normalize: bool | str = False, mask_outliers: float | None = None):
        super().__init__(weight)
        if normalize not in (False, True, "power", "tokens"):
            raise InputError(f"FeatureKD: normalize={normalize!r} is unknown; use False, 'power' or 'tokens'")
        self.normalize = "power" if normalize is True else normalize
        self.mask_outliers = mask_outliers and check_range("FeatureKD: mask_outliers", mask_outliers, above=0)

    def score(self, step: Step) -> Tensor:
        return sum(self.distance(student, teacher) for student, teacher in step.features.values())

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The error of one feature pair of equal shape, a scalar in fp32."""
        keep = self.inliers(teacher)
        if self.normalize == "tokens":
            channels = 1 if teacher.ndim == 4 else -1
            student, teacher = (F.normalize(side.float(), dim=channels) for side in (student, teacher))
            return mean_of((student - teacher).square(), keep) * teacher.shape[channels]
        if keep is None:
            error = squared_error(student, teacher)
        else:
            error = mean_of((student.float() - teacher.float()).square(), keep)
        return error / teacher.float().square().mean() if self.normalize else error

    def inliers(self, teacher: Tensor) -> Tensor | None:
        """Which elements of a feature count; None where all do."""
        if not self.mask_outliers:
            return None
        distance = (teacher.float() - teacher.float().mean()).abs()
        return distance <= self.mask_outliers * teacher.float().std()


def mean_of(values: Tensor, keep: Tensor | None) -> Tensor:
    """The mean of the `values` that are kept, of the shape of `keep`; None keeps all."""
    return values.mean() if keep is None else (values * keep).sum() / keep.sum()
