"""What all losses share: a weighted term of a step, and the comparison of two predictions."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from diffdistill.losses.distance import squared_error, squared_errors
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step

TEACHER = "teacher"  # in `Loss.runs`: the frozen denoiser, and not a critic


class Loss:
    """A weighted term of the training loss.

    `needs_teacher` and `needs_features` tell the model what must be computed, so that a run without either keeps no
    teacher in memory. `compares` says whether it scores `teacher_prediction`; `needs_prior` asks for class pictures that
    losses of the data leave out, `needs_pictures` for pictures where the method needs none; `runs` names the denoisers
    through which it takes gradients: "teacher", or critics of the method; `differentiates_twice` says whether a critic's
    loss holds gradients of that critic.
    """

    needs_teacher = False
    needs_features = False
    compares = False
    needs_prior = False
    needs_pictures = False
    runs: Sequence[str] = ()
    differentiates_twice = False

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def critics(self, plan, teacher: nn.Module | None) -> Mapping[str, nn.Module | Mapping]:
        """The networks that the loss trains beside the student, by name; see `methods.base.Method.critics`."""
        return {}

    def train_critics(self, model, step: Step) -> None:
        """Put the losses of these networks into `step.critic_losses`, and what they say of the student into `step.terms`.

        Called before the step is scored. `model` is what methods know of it: `methods.base.TrainedModel`.
        """

    def __call__(self, step: Step) -> Tensor:
        """The weighted term, a scalar in fp32."""
        return self.weight * self.score(step)

    def score(self, step: Step) -> Tensor:
        """The term before its weight, a scalar in fp32."""
        raise NotImplementedError


class PredictionLoss(Loss):
    """A loss that compares the student's prediction with another of its shape.

    It has no meaning for a method whose student predicts nothing (`Method.predicts`).

    Args:
        weighting: how much each timestep counts, e.g. `dict(type="MinSNR", gamma=5.0)`; by default all alike.
        distance: of one sample, e.g. `dict(type="PseudoHuber")`; by default the mean squared error.
    """

    def __init__(self, weight: float = 1.0, weighting: dict | None = None, distance: dict | None = None):
        super().__init__(weight)
        self.weighting = weighting and build_part(MODELS, weighting, ".weighting")
        self.distance = distance and build_part(MODELS, distance, ".distance")

    def compare(self, step: Step, target: Tensor, sample_weights: Tensor | None = None) -> Tensor:
        """The mean over the batch of weight times distance; sample weights of 1 change nothing."""
        if self.weighting is None and self.distance is None and sample_weights is None:
            return squared_error(step.prediction, target)  # equal to what follows but for the last bit
        distances = (self.distance or squared_errors)(step.prediction, target)
        if self.weighting is not None:
            distances = self.weighting(step) * distances
        if sample_weights is not None:
            distances = sample_weights.to(distances).view_as(distances) * distances
        return distances.mean()
