"""A run that is asked to stop ends after the update that is under way, with a checkpoint."""

from mmengine.hooks import CheckpointHook, EMAHook, Hook

from diffdistill.engine.ranks import on_any_rank
from diffdistill.engine.stopping import stop_request
from diffdistill.errors import Stopped
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class StopHook(Hook):
    """Saves a checkpoint and raises Stopped, on all ranks, where a signal has asked one of them to stop.

    It looks between updates and between batches of validation. Before the first step, and after the last, a signal ends the
    run at once, as there is nothing to save.
    """

    priority = "LOWEST"  # after the hooks that log, save and sample

    def before_train(self, runner) -> None:
        stop_request.waits = True

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        # Gradients that are gathered for an update are in no checkpoint. After the last step, the end is near.
        if runner.optim_wrapper.should_update() and not self.is_last_train_iter(runner):
            self.stop_if_asked(runner, runner.iter + 1)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if stop_request.waits:
            self.stop_if_asked(runner, runner.iter, averaged=True)

    def after_train_epoch(self, runner) -> None:
        stop_request.waits = False
        self.stop_if_asked(runner, runner.iter)

    def stop_if_asked(self, runner, step: int, averaged: bool = False) -> None:
        """Save and raise Stopped if a rank was asked to; `averaged`: an EMA stands in the place of the student."""
        if not on_any_rank(bool(stop_request.asked)):
            return
        if averaged:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook._swap_ema_parameters()
        saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if saver and runner.message_hub.get_info("keep_ckpt_ids", [])[-1:] != [step]:
            saver._save_checkpoint_with_step(runner, step, meta=dict(epoch=runner.epoch, iter=step))
        raise Stopped(f"stopped by {stop_request.asked or 'a signal to another rank'} after step {step}")
