"""Figures mean little alone: measures the teacher and the untrained student before training."""

from mmengine.hooks import Hook

from diffdistill.hooks.common import distiller_of
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class BaselineHook(Hook):
    """Runs the validation on the teacher (where it is in memory) and on the untrained student, and keeps every later one.

    The records, `dict(model, step, **metrics)`, stand in the message hub as `records`, survive a resume, and end in
    `results.json`.
    """

    priority = "LOW"

    def before_train(self, runner) -> None:
        self.model = "student"
        if runner.iter > 0 or runner.val_loop is None:
            return
        distiller = distiller_of(runner)
        runner.message_hub.update_info("records", [])
        if distiller.teacher is not None:
            self.model = distiller.predict_with = "teacher"
            runner.val_loop.run()
        self.model = distiller.predict_with = "student"
        runner.val_loop.run()
        runner.model.train()

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        records = runner.message_hub.get_info("records", [])
        record = dict(model=self.model, step=runner.iter, **{name: float(value) for name, value in (metrics or {}).items()})
        runner.message_hub.update_info("records", [*records, record])
        runner.logger.info(
            f"{describe(record)}: " + ", ".join(f"{name} {value:g}" for name, value in (metrics or {}).items())
        )


def describe(record: dict) -> str:
    if record["model"] == "teacher":
        return "teacher"
    return f"student after {record['step']} steps" if record["step"] else "untrained student"
