"""`report.html`, kept up to date while a run trains."""

import time
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from diffdistill.engine.runner import model_of
from diffdistill.hooks.samples import SampleHook
from diffdistill.registry import HOOKS
from diffdistill.report.record import network_figures, progress_of, read_record, start_of, write_record
from diffdistill.report.write import warn_of_errors, write_report


@HOOKS.register_module()
class ReportHook(Hook):
    """Writes `<run>/report.html` and `<run>/report.json`, from which the page can be made again.

    Both are written at the start, after every validation and at the end. A report that fails is a warning in the log and
    never ends a training.

    Args:
        interval: steps between two pages besides, for runs without a validation.
    """

    priority = "LOWEST"  # after the hooks that write what the page shows

    def __init__(self, interval: int = 1000):
        self.interval, self.record = interval, {}

    @master_only
    def before_train(self, runner) -> None:
        self.began = time.time()
        with warn_of_errors(runner.logger.warning, "no report"):
            # A resumed run goes on with the starts before it; any other begins anew, in a folder that may have been used.
            before = read_record(Path(runner.work_dir)).get("starts", []) if runner.iter else []
            self.record["starts"] = [*before, start_of(runner)]
            samples = (hook for hook in runner.hooks if isinstance(hook, SampleHook))
            self.record["prompts"] = [prompt for hook in samples for prompt in hook.prompts]
        with warn_of_errors(runner.logger.warning, "no picture of the network in the report"):
            if model_of(runner).distills:  # a fine-tuning keeps its model as it is
                self.record["network"] = network_figures(model_of(runner))
        self.write(runner, runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval):
            self.write(runner, runner.iter + 1)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if self.record:  # not yet when the teacher and the untrained student are measured
            self.write(runner, runner.iter)

    def after_train(self, runner) -> None:
        self.write(runner, runner.iter, finished=True)

    @master_only
    def write(self, runner, step: int, finished: bool = False) -> None:
        """Bring the record up to `step`, and write it and the page; an error is logged, not raised."""
        with warn_of_errors(runner.logger.warning, "no report"):
            self.record["starts"][-1]["seconds"] = round(time.time() - self.began, 1)
            self.record.update(progress_of(runner, step, finished))
            write_record(Path(runner.work_dir), self.record)
            page = write_report(runner.work_dir)
            if finished:
                runner.logger.info(f"Report: {page}")
