"""Measures the teacher and the untrained student before training, for figures to compare the trained student with."""

from mmengine.hooks import Hook

from diffdistill.engine.runner import model_of
from diffdistill.metrics.record import STUDENT, TEACHER, Role, role_of, teacher_among, warnings_of
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class BaselineHook(Hook):
    """Runs the validation on the teacher (where it is in memory) and on the untrained student, and keeps every later one.

    A fine-tuning has no student: there it is the base. The records, `dict(model, step, **metrics, protocol)`, stand in
    the message hub as `records`, survive a resume, and end in `results.json`.
    """

    priority = "LOW"

    def before_train(self, runner) -> None:
        self.model = model_of(runner).noun
        if runner.val_loop is None:
            return
        if runner.iter > 0:
            self.catch_up(runner)
            return
        model = model_of(runner)
        runner.message_hub.update_info("records", [])
        if model.teacher is not None:
            self.model, model.draws_teacher = TEACHER, True
            runner.val_loop.run()
        self.model, model.draws_teacher = model.noun, False
        runner.val_loop.run()
        runner.model.train()

    def catch_up(self, runner) -> None:
        """Run the validation that a resumed run has missed: a checkpoint is written before the validation of its step."""
        recorded = {record["step"] for record in runner.message_hub.get_info("records", [])}
        due = runner.iter % runner.train_loop.val_interval == 0 or runner.iter == runner.max_iters
        if due and runner.iter not in recorded:
            runner.val_loop.run()

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        records = runner.message_hub.get_info("records", [])
        record = dict(model=self.model, step=runner.iter, **{name: float(value) for name, value in (metrics or {}).items()})
        if protocol := runner.message_hub.get_info("protocol"):  # noted by EvaluationHook
            record["protocol"] = protocol
        runner.message_hub.update_info("records", [*records, record])
        runner.logger.info(
            f"{describe(record)}: " + ", ".join(f"{name} {value:g}" for name, value in (metrics or {}).items())
        )
        for warning in warnings_of(record, teacher_among(records)):
            runner.logger.warning(f"{describe(record)}: {warning}")


def describe(record: dict) -> str:
    """Whose figures a record holds: "teacher", "untrained student", "base", or "student after 500 steps"."""
    role = role_of(record)
    if role is Role.TRAINED:
        return f"{record['model']} after {record['step']} steps"
    if role is Role.TEACHER:
        return TEACHER
    return "untrained student" if record["model"] == STUDENT else "base"
