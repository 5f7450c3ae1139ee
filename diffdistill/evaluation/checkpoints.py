"""Measuring finished students: the metrics of a config's test or validation, one record a student; `mim test` calls this."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner, set_random_seed

from diffdistill.config.check import check_evaluation, check_model, check_parts
from diffdistill.engine.runner import model_of
from diffdistill.engine.seeding import SeededIterator
from diffdistill.errors import InputError
from diffdistill.models.saved import load_trained
from diffdistill.runs.load import load_distiller, use_checkpoint

TRAINING_HOOKS = ("ema", "export", "samples", "baseline")


def read_labels(checkpoints: Sequence[str]) -> dict[str, str]:
    """Label -> path of "label=path"; a path without a label is called by its last two parts, a single one "student"."""
    labels: dict[str, str] = {}
    for given in checkpoints:
        label, equals, path = given.partition("=")
        if not equals or "/" in label or Path(given).exists():
            label, path = "student" if len(checkpoints) == 1 else "/".join(Path(given).parts[-2:]), given
        if label in labels or label == "teacher":
            raise InputError(f"--checkpoint {given}: the label {label!r} is taken; give another with LABEL=PATH")
        labels[label] = path
    return labels


def evaluate_all(config: Config, checkpoints: Mapping[str, str], teacher: bool = False, batches: int = 20) -> list[dict]:
    """A record of every student in `checkpoints`, label -> path; that of the teacher first, if asked for.

    The pictures, or noise and timesteps, follow from the same seeds for each.
    """
    if batches < 1:
        raise InputError(f"--batches={batches}: give 1 or more")
    for path in checkpoints.values():  # all of them before the first is measured
        use_checkpoint(copy.deepcopy(config), path)
    measure = mean_losses if evaluated_part(config) is None else evaluate
    if teacher and measure is mean_losses:
        raise InputError("--teacher: a teacher has no losses; give the config a validation, or a --protocol")
    students: dict[str, str | None] = {"teacher": None} if teacher else {}
    return [
        dict(model=label, checkpoint=path, **measure(copy.deepcopy(config), path, batches))
        for label, path in (students | dict(checkpoints)).items()
    ]


def evaluated_part(config: Config) -> str | None:
    """Where the config says what to measure: "test" before "val"; None if it does not."""
    return next((part for part in ("test", "val") if config.get(f"{part}_evaluator") is not None), None)


def evaluate(config: Config, checkpoint: str | None, batches: int = 0) -> dict:
    """The figures and the `protocol` of a student, or where `checkpoint` is None of the teacher."""
    part = evaluated_part(config)
    if sampling := (config.get("test_cfg") or {}).pop("sampling", None):
        config.model["sampling"] = sampling
    folder = None
    if checkpoint:
        folder = use_checkpoint(config, checkpoint)
    else:
        check_parts(config)
    plan = check_model(config.model)
    check_evaluation(config, part, plan)
    if not checkpoint and not getattr(plan, "needs_teacher", False):
        raise InputError("--teacher: no loss of this config compares with the teacher, so it is not kept in memory")
    config.test_dataloader, config.test_evaluator = config[f"{part}_dataloader"], config[f"{part}_evaluator"]
    config.test_cfg = dict()
    config.work_dir = str(test_folder(config))  # MMEngine writes the config there: not over the training's
    for key in TRAINING_HOOKS:
        config.default_hooks.pop(key, None)
    runner = Runner.from_cfg(config)
    if folder:
        load_trained(model_of(runner), folder)
    model_of(runner).predict_with = "student" if checkpoint else "teacher"
    figures = runner.test()
    return dict(figures, protocol=runner.message_hub.get_info("protocol"))


@torch.no_grad()
def mean_losses(config: Config, checkpoint: str, batches: int) -> dict:
    """Mean of every loss term over the first `batches` batches of the training data, and the `protocol`."""
    seed = config.get("randomness", {}).get("seed") or 0
    set_random_seed(seed)
    distiller, loader = load_distiller(config, checkpoint), Runner.build_dataloader(config.train_dataloader, seed=seed)
    totals: dict[str, float] = {}
    for _, batch in zip(range(batches), SeededIterator(iter(loader), seed, rank=0), strict=False):
        terms = distiller(**distiller.data_preprocessor(batch), mode="loss")
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value.item() / batches
    protocol = dict(losses="means over training batches", batches=batches, batch_size=loader.batch_size, seed=seed)
    return dict(totals, protocol=protocol)


def test_folder(config: Config) -> Path:
    """Where the log and `results.json` of a test go."""
    return Path(config.work_dir, "test")


def write_results(config: Config, records: Sequence[Mapping], *files: str | Path) -> None:
    """Write the records to each of `files`, as `dict(config, results)`."""
    results = dict(config=Path(config.filename or config.work_dir).stem, results=records)
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(results, indent=2) + "\n")
