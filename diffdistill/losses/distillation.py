"""The three terms of block-pruning distillation (Kim et al., 2023, BK-SDM, sec. 3.2, eqs. 1-3)."""

import torch.nn.functional as F
from torch import Tensor

from diffdistill.registry import MODELS
from diffdistill.step import Step


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in fp32: in half precision a difference of 300 is already infinite when squared."""
    return F.mse_loss(prediction.float(), target.float())


class Loss:
    """A weighted term of the training loss.

    `needs_teacher` and `needs_features` tell the distiller what must be computed, so that a run without either keeps no
    teacher in memory.
    """

    needs_teacher = False
    needs_features = False

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def __call__(self, step: Step) -> Tensor:
        """The weighted term, a scalar in fp32."""
        return self.weight * self.score(step)

    def score(self, step: Step) -> Tensor:
        raise NotImplementedError


@MODELS.register_module()
class TaskLoss(Loss):
    """Distance of the student's prediction to the target of the data (eq. 1)."""

    def score(self, step: Step) -> Tensor:
        return squared_error(step.prediction, step.target)


@MODELS.register_module()
class OutputKD(Loss):
    """Distance of the student's prediction to the teacher's (eq. 2)."""

    needs_teacher = True

    def score(self, step: Step) -> Tensor:
        return squared_error(step.prediction, step.teacher_prediction)


@MODELS.register_module()
class FeatureKD(Loss):
    """Distance of the student's features to the teacher's: the mean squared error of each pair, summed over pairs (eq. 3).

    Args:
        normalize: divide each pair's error by the mean square of the teacher's feature, so that layers with large
            activations do not outweigh the others.
    """

    needs_teacher = True
    needs_features = True

    def __init__(self, weight: float = 1.0, normalize: bool = False):
        super().__init__(weight)
        self.normalize = normalize

    def score(self, step: Step) -> Tensor:
        return sum(self.distance(student, teacher) for student, teacher in step.features.values())

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        error = squared_error(student, teacher)
        return error / teacher.float().square().mean() if self.normalize else error
