"""A moving average of the student that is a part of its training."""

from diffdistill.engine.runner import model_of
from diffdistill.hooks.ema import EMAHook
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class TargetEMAHook(EMAHook):
    """An EMAHook, whose average is also the target network of `LatentConsistency`.

    `momentum` is the weight of the new value at every update: 0.05 for the paper's decay of 0.95.
    """

    def before_run(self, runner) -> None:
        super().before_run(runner)
        average = self.ema_model.module
        model_of(runner).get_average = lambda: average.student  # no attribute: it would become a part of the model
