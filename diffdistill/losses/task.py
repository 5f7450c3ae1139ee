"""The loss that compares with the data: no teacher is needed for it (Kim et al., 2023, BK-SDM, eq. 1)."""

from torch import Tensor

from diffdistill.losses.base import PredictionLoss
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class TaskLoss(PredictionLoss):
    """Distance of the student's prediction to the target of the data (eq. 1), each sample with its `sample_weights`."""

    def score(self, step: Step) -> Tensor:
        return self.compare(step, step.target, step.sample_weights)
