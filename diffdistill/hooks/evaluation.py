"""What an evaluation needs beside pictures: the model, for metrics that ask for it, and a note of how it was done."""

from mmengine.hooks import Hook

from diffdistill.engine.runner import model_of
from diffdistill.metrics.protocol import protocol_of_loop
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class EvaluationHook(Hook):
    """Hands the model to metrics with `needs_model`, and leaves the protocol in the message hub as `protocol`.

    MMEngine's evaluator gives metrics the records of pictures alone.
    """

    def before_val(self, runner) -> None:
        self.hand_over(runner, runner.val_loop)

    def before_test(self, runner) -> None:
        self.hand_over(runner, runner.test_loop)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        self.note(runner, runner.val_loop)

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        self.note(runner, runner.test_loop)

    def hand_over(self, runner, loop) -> None:
        """Hand the model that is measured to the metrics of `loop` that need it."""
        for metric in loop.evaluator.metrics:
            if getattr(metric, "needs_model", False):
                metric.model = model_of(runner)

    def note(self, runner, loop) -> None:
        """Leave the protocol of what `loop` has just measured in the message hub, as `protocol`."""
        runner.message_hub.update_info("protocol", protocol_of_loop(model_of(runner), loop))
