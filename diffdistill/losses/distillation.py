"""The losses that compare with a teacher: its output and its features (Kim et al., 2023, BK-SDM, sec. 3.2, eqs. 2-3)."""

from torch import Tensor

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

    def score(self, step: Step) -> Tensor:
        return self.compare(step, step.teacher_prediction)


@MODELS.register_module()
class FeatureKD(Loss):
    """Distance of the student's features to the teacher's: the mean squared error of each pair, summed over pairs (eq. 3).

    As in `OutputKD`, `sample_weights` do not count.

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
        """The error of one feature pair of equal shape, a scalar in fp32."""
        error = squared_error(student, teacher)
        return error / teacher.float().square().mean() if self.normalize else error
