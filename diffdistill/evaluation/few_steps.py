"""How well teacher and student do with few sampling steps."""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric, Evaluator
from torch.utils.data import DataLoader

from diffdistill.config.check import check_model
from diffdistill.config.parts import entries
from diffdistill.config.stages import last_stage, stage_configs
from diffdistill.engine.runner import build_dataloader
from diffdistill.errors import InputError
from diffdistill.metrics.record import STUDENT, TEACHER
from diffdistill.models.base import build_model
from diffdistill.models.distiller import Distiller
from diffdistill.registry import METRICS, build_part
from diffdistill.runs.load import Trained


def metrics_by_steps(
    config: Config, checkpoint: str | None, steps: Sequence[int], guidance: float | None = None
) -> list[dict]:
    """The metrics of the config's validation after each number of sampling steps; a dict each, with `model` and `steps`.

    A student whose method trains it for a sampler is sampled with that one, everything else with trailing DDIM, or
    Euler's steps under flow matching.

    Args:
        checkpoint: of the student; None measures the teacher instead, of the first stage of a config in stages.
        guidance: the scale, by default the config's.
    """
    if config.get("val_evaluator") is None:
        raise InputError("the config has no validation (val_evaluator, val_dataloader); inherit one of configs/shapes")
    if min(steps) < 1:
        raise InputError(f"--steps={min(steps)}: give 1 or more")
    asked = {} if guidance is None else dict(guidance_scale=guidance)
    metrics = build_metrics(config)
    model = load_teacher(config) if checkpoint is None else load_student(config, checkpoint, asked, max(steps))
    loader = build_dataloader(config.val_dataloader)
    rows = []
    for count in steps:
        model.asked = {}
        model.sample_with(num_inference_steps=count)
        own = {"scheduler": model.noise_schedule.one_step_sampler(count), **model.student_sampling}
        model.sample_with(**{**own, **asked, "num_inference_steps": count})
        scale = model.scheduler()[1].get("guidance_scale")
        row = dict(model=STUDENT if checkpoint else TEACHER, steps=count, guidance_scale=scale)
        rows.append(row | evaluate_once(model, loader, metrics))
    return rows


def load_student(config: Config, checkpoint: str, asked: dict, most: int) -> Distiller:
    """The student of `checkpoint`, without its teacher."""
    config = last_stage(config)
    config.merge_from_dict(dict(model=dict(losses=dict(_delete_=True))))
    return Trained(config, checkpoint, {**asked, "num_inference_steps": most}).load()


def load_teacher(config: Config) -> Distiller:
    """The config's teacher, as a student of all its layers that nothing is going to train."""
    model = (stage_configs(config)[0] if config.get("stages") else config).model
    whole = dict(
        type="Distiller",
        teacher=model.teacher,
        losses={},
        sampling=model.get("sampling"),
        dtype=model.get("dtype", "float32"),
    )
    return build_model(whole, check_model(whole)).to(get_device()).eval()


def build_metrics(config: Config) -> list[BaseMetric]:
    """The metrics of the config's validation. Raises InputError for one that needs the teacher beside its student."""
    metrics = []
    for where, metric in entries(config.val_evaluator, "val_evaluator"):
        metrics.append(build_part(METRICS, metric, where))
        if getattr(metrics[-1], "needs_teacher", False):
            raise InputError(f"{where}: {metric['type']} needs teacher and student at once; measure it with `mim test`")
    return metrics


@torch.no_grad()
def evaluate_once(model: Distiller, loader: DataLoader, metrics: list[BaseMetric]) -> dict[str, float]:
    """The figures of `metrics`, by name, of the pictures that `model` makes for the captions of `loader`."""
    evaluator = Evaluator(metrics)
    for metric in metrics:
        if getattr(metric, "needs_model", False):
            metric.model = model
    for batch in loader:
        samples = model(**model.data_preprocessor(batch), mode="predict")
        evaluator.process(data_samples=samples, data_batch=batch)
    return evaluator.evaluate(len(loader.dataset))
