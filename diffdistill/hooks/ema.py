"""A moving average of what is trained."""

import mmengine.hooks
from mmengine.registry import MODELS

from diffdistill.engine.runner import model_of
from diffdistill.engine.sharding import FullyShard
from diffdistill.registry import HOOKS
from diffdistill.step import Turn


@HOOKS.register_module()
class EMAHook(mmengine.hooks.EMAHook):
    """MMEngine's EMAHook, which takes the weights into the average once an update of the student, not once an iteration.

    So a decay means the same however many iterations an update accumulates. `interval` counts updates as well, and
    `begin_iter` iterations.
    """

    def before_run(self, runner) -> None:
        if isinstance(runner.model, FullyShard):
            self.src_model = runner.model.module
            self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=runner.model.copy_trained()))
        else:
            super().before_run(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        # Of the iteration that has just ended; in a turn of its critics alone, the student stays as it is.
        turn = getattr(model_of(runner), "turn", Turn())
        if runner.optim_wrapper.should_update() and turn.student:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
