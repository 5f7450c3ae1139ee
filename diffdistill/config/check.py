"""What is wrong with a config, found before gigabytes are loaded and before anything is written."""

import inspect
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import DATA_SAMPLERS, MODELS, OPTIMIZERS, PARAM_SCHEDULERS, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from diffdistill import registry
from diffdistill.datasets.class_pictures import missing_class_pictures
from diffdistill.errors import InputError
from diffdistill.families.terminal_snr import check_terminal_snr, rescales
from diffdistill.files import check_folder
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan, compute_dtype, scheduler_class
from diffdistill.models.saved import check_weights

REQUIRED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")

# Where a config names the type of a part, what builds it, and the arguments that do not come from the config.
PARTS: list[tuple[str, Registry, Sequence[str]]] = [
    ("model", registry.MODELS, ()),
    ("model.teacher", registry.MODELS, ()),
    ("model.base", registry.MODELS, ()),
    ("model.student.adapter", registry.ADAPTERS, ()),
    ("model.adapter", registry.ADAPTERS, ()),
    ("model.text_encoder_adapter.*", registry.ADAPTERS, ()),
    ("model.method", registry.MODELS, ()),
    ("model.method.conditioning", registry.MODELS, ()),
    ("model.method.timesteps", registry.MODELS, ()),
    ("model.method.noise", registry.MODELS, ()),
    ("model.losses.*", registry.MODELS, ()),
    ("model.losses.*.weighting", registry.MODELS, ()),
    ("model.losses.*.distance", registry.MODELS, ()),
    ("train_dataloader.dataset", registry.DATASETS, ()),
    ("train_dataloader.dataset.pipeline.*", registry.TRANSFORMS, ()),
    ("train_dataloader.sampler", DATA_SAMPLERS, ("dataset",)),
    ("val_dataloader.dataset", registry.DATASETS, ()),
    ("val_dataloader.sampler", DATA_SAMPLERS, ("dataset",)),
    ("val_evaluator.*", registry.METRICS, ()),
    ("test_dataloader.dataset", registry.DATASETS, ()),
    ("test_dataloader.sampler", DATA_SAMPLERS, ("dataset",)),
    ("test_evaluator.*", registry.METRICS, ()),
    ("train_cfg", registry.LOOPS, ("runner", "dataloader")),
    ("optim_wrapper", registry.OPTIM_WRAPPERS, ("optimizer",)),
    ("optim_wrapper.optimizer", OPTIMIZERS, ("params",)),
    ("param_scheduler.*", PARAM_SCHEDULERS, ("optimizer",)),
    ("default_hooks.*", registry.HOOKS, ()),
    ("custom_hooks.*", registry.HOOKS, ()),
]


def check(config: Config, checkpoint: str | None = None) -> Plan | None:
    """Find the mistakes of a training: of the config and, where it starts from one, of the checkpoint. Gives the plan."""
    for key in REQUIRED:
        if key not in config:
            raise InputError(f"the config has no {key}; inherit one that has, e.g. {', '.join(REQUIRED)} of configs/_base_")
    check_folder(config.work_dir, "--work-dir")
    check_parts(config)
    check_intervals(config)
    plan = check_model(config.model)
    check_average(config, plan)
    if checkpoint:
        check_checkpoint(checkpoint, plan)
    dataset = build(registry.DATASETS, config.train_dataloader.dataset, "train_dataloader.dataset")
    if not missing_class_pictures(dataset):
        dataset[0]
    if config.get("val_evaluator") is not None:
        check_evaluation(config, "val", plan)
    for kind in ("default_hooks", "custom_hooks"):
        for where, hook in find_parts(config.get(kind), ["*"], kind):
            build(registry.HOOKS, hook, where)
    return plan


def check_evaluation(config: Config, part: str, plan: Plan | None) -> None:
    """Build the captions and the metrics of `part`, "val" or "test": they find out whether their files are there."""
    build(registry.DATASETS, config[f"{part}_dataloader"].dataset, f"{part}_dataloader.dataset")[0]
    for where, metric in find_parts(config[f"{part}_evaluator"], ["*"], f"{part}_evaluator"):
        built = build(registry.METRICS, metric, where)
        if getattr(built, "needs_teacher", False) and plan is not None and not getattr(plan, "needs_teacher", False):
            raise InputError(f"{where}: {metric['type']} compares with the teacher, and no loss keeps it; add OutputKD")


def check_model(model: Mapping) -> Plan | None:
    """Build the plan of the model, which reads small files only; None for a model that is not ours."""
    kind = registry.MODELS.get(model["type"])
    if not issubclass(kind, DiffusionModel):
        return None
    for key, known in {**kind.plan_class.sections, "sampling": None}.items():
        section = model
        for part in key.split("."):
            section = (section or {}).get(part)
        if not isinstance(section or {}, Mapping):
            raise InputError(f"model.{key}={section!r} is no dict; to empty it, write model.{key}._delete_=True")
        if known is not None:
            check_keys(section or {}, known, f"model.{key}")
    compute_dtype(model.get("dtype", "float32"))
    plan = kind.plan_class(**{key: model.get(key) for key in inspect.signature(kind.plan_class).parameters})
    sampling = dict(model.get("sampling") or {})
    if scheduler := sampling.pop("scheduler", None):
        name = scheduler if isinstance(scheduler, str) else scheduler.get("type")
        able = rescales(scheduler_class(name))
        if plan.family.zero_terminal_snr and not able:
            raise InputError(
                f"model.sampling.scheduler={name} cannot rescale its schedule as {plan.family.key}.zero_terminal_snr asks;"
                " use one that can, such as DDIMScheduler"
            )
    check_terminal_snr(plan.noise_schedule, plan.family.zero_terminal_snr, "model.student")
    call = inspect.signature(plan.family.pipeline_class.__call__).parameters
    check_keys(sampling, ["scheduler", *list(call)[1:]], "model.sampling")
    return plan


def check_parts(config: Config) -> None:
    """Raise InputError for a part with an unknown type, or with an argument that its type does not take."""
    whole = config.to_dict()
    for path, parts, provided in PARTS:
        for where, part in find_parts(whole, path.split(".")):
            check_part(part, parts, provided, where)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        check_keys(config.get(name) or {}, [*inspect.signature(DataLoader).parameters, "num_batch_per_epoch"], name)
    check_keys(config.get("randomness") or {}, list(inspect.signature(Runner.set_randomness).parameters)[1:], "randomness")


def check_part(part, parts: Registry, provided: Sequence[str], where: str) -> None:
    if not isinstance(part, dict) or "type" not in part:
        raise InputError(f"{where}={part!r} says no type; write {where}=dict(type=..., ...), or drop it with None")
    kind = part["type"]
    if isinstance(kind, str):
        try:
            kind = parts.get(kind)
        except RuntimeError:  # MMEngine's answer to a name that it cannot import
            kind = None
        if kind is None:
            inherited = parts.parent.module_dict if parts.parent else {}
            near = get_close_matches(part["type"], [*parts.module_dict, *inherited], n=3, cutoff=0.5)
            near = ", ".join(near or sorted(parts.module_dict))
            raise InputError(f"{where}.type={part['type']!r} is unknown; the nearest: {near}")
    parameters = inspect.signature(kind).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if isinstance(kind, type) and issubclass(kind, EMAHook):  # what it does not know it hands to the average
        average = MODELS.get(part.get("ema_type", "ExponentialMovingAverage"))
        check_keys(part, [*inspect.signature(kind).parameters, *inspect.signature(average).parameters], where)
    elif not any(p.kind is p.VAR_KEYWORD for p in parameters):
        check_keys(part, [p.name for p in named], where)
    for parameter in named:
        if parameter.default is parameter.empty and parameter.name not in (*part, *provided):
            raise InputError(f"{where}.{parameter.name} is missing; {part['type']} needs it")


def check_keys(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise InputError for a key of the section `where` that is not `known`."""
    for key in given:
        if key not in known and key not in ("type", "_scope_"):  # MMEngine marks inherited parts with their scope
            raise InputError(f"{where}.{key} is not a key of the config; the nearest: {nearest(key, known)}")


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
    hooks = [hook["type"] for kind in ("default_hooks", "custom_hooks") for _, hook in find_parts(config.get(kind), ["*"])]
    if plan and plan.method.needs_average and "TargetEMAHook" not in hooks:
        raise InputError(
            f"model.method.type={config.model.method.type!r} needs a moving average of the student; set"
            " default_hooks.ema=dict(type='TargetEMAHook', momentum=0.05), or model.method.target='student'"
        )


def check_sampling(plan: Plan | None, options: Mapping) -> None:
    """Raise InputError for options of sampling, given by hand, that the student of `plan` was not trained for."""
    trained = plan.method.sampling if plan else {}
    scale, steps = options.get("guidance_scale", 1), options.get("num_inference_steps", 1)
    if scale > 1 and trained.get("guidance_scale") == 1:
        raise InputError(
            f"--guidance-scale={scale:g}: {type(plan.method).__name__} has trained this student to be sampled without"
            " guidance (a scale of 1); leave the option out"
        )
    most = (trained.get("scheduler") or {}).get("original_inference_steps", steps)
    if steps > most:
        raise InputError(f"--steps={steps}: the sampler of {type(plan.method).__name__} takes 1 to {most} steps")


def check_checkpoint(path: str, plan: Plan | None) -> None:
    """Raise InputError unless `path` is a checkpoint of a run that trained what `plan` does."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        state, _ = checkpoint["state_dict"], checkpoint["meta"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is no checkpoint of a run, or damaged ({type(error).__name__})") from None
    if plan is not None:
        check_weights(state, plan.trained_state(), path)


def build(parts: Registry, part: Mapping, where: str):
    """Build a part; what its constructor finds wrong is a mistake in the config."""
    try:
        return parts.build(part)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where} ({part['type']}): {reason or type(error).__name__}") from error


def find_parts(section, path: Sequence[str], where: str = "") -> Iterator[tuple[str, object]]:
    """Every part at `path`, with its full name; `*` stands for the values of a dict or list, or for a part itself."""
    if section is None:
        return
    if not path:
        yield where, section
    elif path[0] != "*":
        if isinstance(section, Mapping):
            yield from find_parts(section.get(path[0]), path[1:], f"{where}.{path[0]}".lstrip("."))
    elif isinstance(section, Mapping) and "type" in section:
        yield where, section
    else:
        items = section.items() if isinstance(section, Mapping) else enumerate(section)
        for key, item in items:
            yield from find_parts(item, path[1:], f"{where}.{key}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like `name`; all of them where none is like it."""
    known = sorted(known)
    return ", ".join(get_close_matches(name, known, n=3, cutoff=0.5) or known)
