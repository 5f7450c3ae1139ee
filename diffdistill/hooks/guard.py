"""Updates that are not finite: counted, told with their samples, and the end of a run that makes no others."""

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook

from diffdistill.engine.ranks import on_all_ranks
from diffdistill.engine.runner import model_of
from diffdistill.errors import Diverged, InputError
from diffdistill.families.loading import is_finite
from diffdistill.registry import HOOKS

NAMED = 20  # samples in a record: more would fill the checkpoints of large batches


@HOOKS.register_module()
class GuardHook(Hook):
    """Counts the updates that `MixedPrecision` has left out, and stops the run where it leaves out nothing else.

    Each is a warning in the log and a record `dict(step, reason, samples)` in the message hub's `skipped_steps`, which
    survives a resume and ends in `results.json` and the report. What is not finite stays out of the log's means. Raises
    Diverged after too many updates in a row, and before weights that are not finite would be exported.

    Args:
        max_in_a_row: updates left out one after the other that stop the run.
    """

    priority = "HIGHEST"  # before the losses are logged, and before a checkpoint is written

    def __init__(self, max_in_a_row: int = 10):
        if max_in_a_row < 1:
            raise InputError(f"default_hooks.guard.max_in_a_row={max_in_a_row}: give 1 or more")
        self.max_in_a_row = max_in_a_row
        self.samples: list[str] = []  # of the update that is under way, and those of them whose loss is not finite
        self.bad: list[str] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        samples = list((data_batch or {}).get("sample", []))
        bad = [name for name, value in (outputs or {}).items() if not torch.as_tensor(value).isfinite()]
        for name in bad:
            del outputs[name]
        self.samples += samples
        self.bad += samples if bad else []
        if not runner.optim_wrapper.should_update():  # of the iteration that has just ended
            return
        hub, in_a_row = runner.message_hub, 0
        if fault := getattr(runner.optim_wrapper, "fault", ""):
            in_a_row = skipped_in_a_row(runner) + 1
            self.record(runner, fault, in_a_row)
        hub.update_info("skipped_in_a_row", in_a_row)
        self.samples, self.bad = [], []

    def record(self, runner, fault: str, in_a_row: int) -> None:
        """Tell and keep that the update that ends with this step is left out; raises Diverged after too many in a row."""
        samples = [sample for rank in all_gather_object(self.bad or self.samples) for sample in rank]
        record = dict(step=runner.iter + 1, reason=f"{fault} is not finite", samples=samples[:NAMED])
        runner.message_hub.update_info("skipped_steps", [*runner.message_hub.get_info("skipped_steps", []), record])
        among = f"; among its samples: {', '.join(samples[:3])}" if samples else ""
        runner.logger.warning(f"update of step {runner.iter + 1} left out: its {fault} is not finite{among}")
        if in_a_row >= self.max_in_a_row:
            raise Diverged(
                f"the {fault} was not finite in {in_a_row} updates in a row, the last at step {runner.iter + 1}{among}"
            )

    def after_train(self, runner) -> None:
        check_finite(runner, runner.iter)


def skipped_in_a_row(runner) -> int:
    """How many updates have been left out since the last one that was made."""
    return runner.message_hub.get_info("skipped_in_a_row", 0)


def check_finite(runner, step: int) -> None:
    """Raise Diverged, on all ranks, where one has trained weights that are not finite."""
    local = (each.to_local() if hasattr(each, "to_local") else each for each in model_of(runner).parameters())
    if not on_all_ranks(all(is_finite(tensor.detach()) for tensor in local)):
        raise Diverged(f"the trained weights are not finite after step {step}")
