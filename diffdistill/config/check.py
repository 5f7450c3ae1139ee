"""What is wrong with a config, found before gigabytes are loaded and before anything is written."""

import inspect
import pickle
from collections.abc import Mapping

import torch
from mmengine.config import Config

from diffdistill import registry
from diffdistill.config.fit import check_memory
from diffdistill.config.folders import check_work_folder
from diffdistill.config.parts import check_keys, check_parts, entries
from diffdistill.datasets.class_pictures import missing_class_pictures
from diffdistill.engine.resuming import check_optimizer
from diffdistill.engine.sharded_checkpoint import is_sharded_checkpoint, load_on_meta
from diffdistill.errors import InputError
from diffdistill.families.reading import check_resolution
from diffdistill.families.terminal_snr import check_terminal_snr, rescales
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan, scheduler_class
from diffdistill.models.saved import check_weights

REQUIRED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")


def check(config: Config, checkpoint: str | None = None) -> Plan | None:
    """Find the mistakes of a config, and of the checkpoint that its training starts from; returns the plan of the model.

    Raises InputError for the first mistake. The plan is None for a model that is not ours.
    """
    for key in REQUIRED:
        if key not in config:
            raise InputError(f"the config has no {key}; inherit one that has, e.g. {', '.join(REQUIRED)} of configs/_base_")
    check_work_folder(config)
    check_parts(config)
    check_intervals(config)
    plan = check_model(config.model)
    check_average(config, plan)
    check_batch(config, plan)
    check_memory(config, plan)
    if checkpoint:
        meta = check_checkpoint(checkpoint, plan)
        if config.get("resume"):
            check_optimizer(meta, config, checkpoint)
    dataset = registry.build_part(registry.DATASETS, config.train_dataloader.dataset, "train_dataloader.dataset")
    if not missing_class_pictures(dataset):
        item = dataset[0]
        if plan and "pixel_values" in item:
            check_resolution(plan.family, *item["pixel_values"].shape[-2:], "train_dataloader.dataset")
    if config.get("val_evaluator") is not None:
        check_evaluation(config, "val", plan)
    for kind in ("default_hooks", "custom_hooks"):
        for where, hook in entries(config.get(kind), kind):
            registry.build_part(registry.HOOKS, hook, where)
    return plan


def check_evaluation(config: Config, part: str, plan: Plan | None) -> None:
    """Build the captions and metrics of `part`, "val" or "test", which raise InputError where their files are missing."""
    registry.build_part(registry.DATASETS, config[f"{part}_dataloader"].dataset, f"{part}_dataloader.dataset")[0]
    for where, metric in entries(config[f"{part}_evaluator"], f"{part}_evaluator"):
        built = registry.build_part(registry.METRICS, metric, where)
        if getattr(built, "needs_teacher", False) and plan is not None and not plan.needs_teacher:
            raise InputError(f"{where}: {metric['type']} compares with the teacher, and no loss keeps it; add OutputKD")


def check_model(model: Mapping) -> Plan | None:
    """Build the plan of the model, which reads small files only; None for a model that is not ours."""
    kind = registry.MODELS.get(model["type"])
    if not issubclass(kind, DiffusionModel):
        return None
    for key, known in kind.plan_class.sections.items():
        section = model
        for part in key.split("."):
            section = (section or {}).get(part)
        if not isinstance(section or {}, Mapping):
            raise InputError(f"model.{key}={section!r} is no dict; to empty it, write model.{key}._delete_=True")
        if known is not None:
            check_keys(section or {}, known, f"model.{key}")
    plan = kind.plan_class(**{key: model[key] for key in inspect.signature(kind.plan_class).parameters if key in model})
    sampling = dict(model.get("sampling") or {})
    if scheduler := sampling.pop("scheduler", None):
        name = scheduler if isinstance(scheduler, str) else scheduler.get("type")
        plan.noise_schedule.scheduler_changes(scheduler_class(name), "model.sampling.scheduler")
        able = rescales(scheduler_class(name))
        if plan.family.zero_terminal_snr and not able:
            raise InputError(
                f"model.sampling.scheduler={name} cannot rescale its schedule as {plan.family.key}.zero_terminal_snr asks;"
                " use one that can, such as DDIMScheduler"
            )
    check_terminal_snr(plan.noise_schedule, plan.family.zero_terminal_snr, "model.student")
    call = inspect.signature(plan.family.pipeline_class.__call__).parameters
    check_keys(sampling, ["scheduler", *list(call)[1:]], "model.sampling")
    if sampling.get("height") or sampling.get("width"):
        height, width = (sampling.get(side) or plan.family.native_size for side in ("height", "width"))
        check_resolution(plan.family, height, width, "model.sampling")
    return plan


def check_intervals(config: Config) -> None:
    """Raise InputError if a checkpoint would fall between two updates: the gradients gathered so far would be lost."""
    counts = config.optim_wrapper.get("accumulative_counts", 1)
    interval = ((config.get("default_hooks") or {}).get("checkpoint") or {}).get("interval", -1)
    if interval > 0 and interval % counts:
        raise InputError(
            f"default_hooks.checkpoint.interval={interval} is no multiple of optim_wrapper.accumulative_counts={counts};"
            f" the nearest is {max(round(interval / counts), 1) * counts}"
        )


def check_average(config: Config, plan: Plan | None) -> None:
    """Raise InputError if the method needs a moving average of the student and no hook keeps one."""
    hooks = [hook["type"] for kind in ("default_hooks", "custom_hooks") for _, hook in entries(config.get(kind), kind)]
    if plan and plan.method.needs_average and "TargetEMAHook" not in hooks:
        raise InputError(
            f"model.method.type={config.model.method.type!r} needs a moving average of the student; set"
            " default_hooks.ema=dict(type='TargetEMAHook', momentum=0.05), or model.method.target='student'"
        )


def check_batch(config: Config, plan: Plan | None) -> None:
    """Raise InputError if a batch has fewer samples than the method needs."""
    size = config.train_dataloader.get("batch_size", 1)
    if plan and size < plan.method.smallest_batch:
        raise InputError(
            f"train_dataloader.batch_size={size}: such a batch has no other caption for model.method.conditioning; set it to"
            f" {plan.method.smallest_batch} or more, or model.method.conditioning.captions to a text file with one a line"
        )


def check_sampling(plan: Plan | None, options: Mapping) -> None:
    """Raise InputError for options of sampling, given by hand, that the student of `plan` was not trained for."""
    trained = plan.student_sampling if plan else {}
    scale, steps = options.get("guidance_scale", 1), options.get("num_inference_steps", 1)
    if scale > 1 and trained.get("guidance_scale") == 1:
        raise InputError(
            f"--guidance-scale={scale:g}: {type(plan.method).__name__} has trained this student to be sampled without"
            " guidance (a scale of 1); leave the option out"
        )
    most = (trained.get("scheduler") or {}).get("original_inference_steps", steps)
    if steps > most:
        raise InputError(f"--steps={steps}: the sampler of {type(plan.method).__name__} takes 1 to {most} steps")


def check_checkpoint(path: str, plan: Plan | None) -> dict:
    """What a checkpoint says of its run; raises InputError unless `path` is one of a run that trained what `plan` does."""
    try:
        if is_sharded_checkpoint(path):
            checkpoint = load_on_meta(path)
        else:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, meta = checkpoint["state_dict"], checkpoint["meta"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is no checkpoint of a run, or damaged ({type(error).__name__})") from None
    if plan is not None:
        check_weights(state, plan.trained_state(), path)
    return meta
