"""Measuring finished students: the metrics of a config's test or validation, one record a student; `mim test` calls this."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import set_random_seed

from diffdistill.config.check import check_evaluation, check_model, check_parts
from diffdistill.config.folders import check_apart, check_no_model
from diffdistill.engine.feed import Feed
from diffdistill.engine.runner import PlannedRunner, batch_size_of, build_dataloader
from diffdistill.errors import InputError
from diffdistill.files import check_folder, write_text_whole
from diffdistill.metrics.record import STUDENT, TEACHER
from diffdistill.models.base import DiffusionModel, build_model
from diffdistill.models.plan import Plan
from diffdistill.runs.load import Trained

TRAINING_HOOKS = ("ema", "export", "samples", "baseline")


def read_labels(checkpoints: Sequence[str]) -> dict[str, str]:
    """Paths by label, from "label=path"; a path without one is labelled by its last two parts, a single one "student"."""
    labels: dict[str, str] = {}
    for given in checkpoints:
        label, equals, path = given.partition("=")
        if not equals or "/" in label or Path(given).exists():
            label, path = STUDENT if len(checkpoints) == 1 else "/".join(Path(given).parts[-2:]), given
        if label in labels or label == TEACHER:
            raise InputError(f"--checkpoint {given}: the label {label!r} is taken; give another with LABEL=PATH")
        labels[label] = path
    return labels


def evaluate_all(config: Config, checkpoints: Mapping[str, str], teacher: bool = False, batches: int = 20) -> list[dict]:
    """A record of every student in `checkpoints`, label -> path; that of the teacher first, if asked for.

    The pictures, or noise and timesteps, follow from the same seeds for each.
    """
    if batches < 1:
        raise InputError(f"--batches={batches}: give 1 or more")
    config = copy.deepcopy(config)
    check_folder(config.work_dir, "--work-dir")
    check_no_model(config.work_dir, "--work-dir")
    check_apart(str(test_folder(config)), "--work-dir", config)
    if sampling := (config.get("test_cfg") or {}).pop("sampling", None):
        config.model["sampling"] = sampling
    trained = {label: Trained(config, path) for label, path in checkpoints.items()}  # all, before the first is measured
    has_metrics = evaluated_part(config) is not None
    if teacher and not has_metrics:
        raise InputError("--teacher: a teacher has no losses; give the config a validation, or a --protocol")
    # Whatever first weights the config gives its student, such as those of the stage before, they need not be there.
    beside = next((each.model for each in trained.values() if each.is_student), config.model)
    records = [dict(model=TEACHER, checkpoint=None, **evaluate_teacher(config, beside))] if teacher else []
    for label, each in trained.items():
        figures = evaluate(config, each.plan, each.load) if has_metrics else mean_losses(config, each, batches)
        quantize = each.plan.quantization.described if each.plan else None
        described = dict(quantize=quantize) if quantize else {}
        records.append(dict(model=label, checkpoint=checkpoints[label], **described, **figures))
    return records


def evaluated_part(config: Config) -> str | None:
    """The part of a config that says what to measure: "test" where it has one, else "val"; None where it has neither."""
    return next((part for part in ("test", "val") if config.get(f"{part}_evaluator") is not None), None)


def evaluate_teacher(config: Config, described: Mapping) -> dict:
    """The figures of the teacher of the model that is `described`. Raises InputError where no loss keeps one in memory."""
    check_parts(config)
    plan = check_model(described)
    if plan is None or not plan.needs_teacher:
        raise InputError("--teacher: no loss of this config compares with the teacher, so it is not kept in memory")

    def load() -> DiffusionModel:
        model = build_model(described, plan)
        model.draws_teacher = True
        return model

    return evaluate(config, plan, load)


def evaluate(config: Config, plan: Plan | None, load: Callable[[], DiffusionModel]) -> dict:
    """What the metrics of `config` measure of the model that `load` returns, and the `protocol`."""
    part = evaluated_part(config)
    check_evaluation(config, part, plan)
    config = copy.deepcopy(config)
    config.test_dataloader, config.test_evaluator = config[f"{part}_dataloader"], config[f"{part}_evaluator"]
    config.test_cfg = dict()
    config.load_from, config.resume = None, False  # what a training starts from; `load` has what is measured
    config.work_dir = str(test_folder(config))  # MMEngine writes the config there: not over the training's
    for key in TRAINING_HOOKS:
        config.default_hooks.pop(key, None)
    runner = PlannedRunner.around(config, load)
    figures = runner.test()
    return dict(figures, protocol=runner.message_hub.get_info("protocol"))


@torch.no_grad()
def mean_losses(config: Config, trained: Trained, batches: int) -> dict:
    """Mean of every loss term over the first `batches` batches of the training data, and the `protocol`."""
    seed = config.get("randomness", {}).get("seed") or 0
    set_random_seed(seed)
    model, loader = trained.load(), build_dataloader(config.train_dataloader, seed)
    if model.method.needs_average:
        model.get_average = lambda: model.student  # what is measured is the average, where the run kept one
    totals: dict[str, float] = {}
    for _, batch in zip(range(batches), Feed(loader, seed), strict=False):
        terms = model(**model.data_preprocessor(batch), mode="loss")
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value.item() / batches
    protocol = dict(losses="means over training batches", batches=batches, batch_size=batch_size_of(loader), seed=seed)
    return dict(totals, protocol=protocol)


def test_folder(config: Config) -> Path:
    """Where the log and `results.json` of a test go."""
    return Path(config.work_dir, "test")


def write_results(config: Config, records: Sequence[Mapping], *files: str | Path) -> None:
    """Write the records to each of `files`, as `dict(config, results)`."""
    results = dict(config=Path(config.filename or config.work_dir).stem, results=records)
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_text_whole(Path(file), json.dumps(results, indent=2) + "\n")
