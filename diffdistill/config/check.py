"""What is wrong with a config, found before gigabytes are loaded and before anything is written."""

import inspect
import pickle
from collections.abc import Mapping

import torch
from mmengine.config import Config

from diffdistill import registry
from diffdistill.config.annotations import check_fits, signature_of
from diffdistill.config.buckets import check_buckets
from diffdistill.config.cache import check_cache
from diffdistill.config.fit import check_memory
from diffdistill.config.folders import check_work_folder
from diffdistill.config.grid import check_grid
from diffdistill.config.parts import check_keys, check_parts, entries
from diffdistill.config.sections import check_together
from diffdistill.config.trial import check_loader, check_stream, check_training
from diffdistill.datasets.cached import cached_loader
from diffdistill.datasets.class_pictures import missing_class_pictures
from diffdistill.engine.launch import check_ranks, check_sharding
from diffdistill.engine.resuming import check_same_optimizer
from diffdistill.engine.sharded_checkpoint import is_sharded_checkpoint, load_on_meta
from diffdistill.errors import InputError
from diffdistill.families.reading import check_resolution
from diffdistill.families.terminal_snr import check_terminal_snr, rescales
from diffdistill.families.unet import UNetFamily
from diffdistill.models.adapters import trainable
from diffdistill.models.base import DiffusionModel
from diffdistill.models.plan import Plan, scheduler_class
from diffdistill.models.saved import check_weights

GIVEN = "self", "prompt", "generator", "output_type", "num_images_per_prompt", "return_dict"  # to a pipeline, by the model
REQUIRED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")


def check(config: Config, checkpoint: str | None = None, plan: Plan | None = None) -> Plan | None:
    """Find the mistakes of a config, and of the checkpoint that its training starts from; returns the plan of the model.

    That is `plan` where it is there already, as that of a stage is, whose teacher may still have to be trained. Raises
    InputError for the first mistake. The plan is None for a model that is not ours.
    """
    for key in REQUIRED:
        if config.get(key) is None:
            raise InputError(f"the config has no {key}; inherit one that has, e.g. {', '.join(REQUIRED)} of configs/_base_")
    check_together(config)
    check_parts(config)
    check_work_folder(config)
    check_intervals(config)
    plan = plan or check_model(config.model)
    cache = check_cache(config, plan)
    if cache is not None:
        plan.cache = cache
    check_average(config, plan)
    check_batch(config, plan)
    check_training(config, plan)
    check_turns(config, plan)
    check_sharding(config, plan)
    check_memory(config, plan)
    if checkpoint:
        meta = check_checkpoint(checkpoint, plan)
        if config.get("resume"):
            check_same_optimizer(meta, config, checkpoint)
    check_data(config, plan)
    if config.get("val_evaluator") is not None:
        check_evaluation(config, "val", plan)
    return plan


def check_data(config: Config, plan: Plan | None) -> None:
    """Build the training set and its loader, and read a sample, whose picture must be of a size that the family takes."""
    section = cached_loader(config).dataset
    dataset = registry.build_part(registry.DATASETS, section, "train_dataloader.dataset")
    if streamed := getattr(dataset, "streamed", False):
        check_stream(config)
    else:
        check_ranks(config, len(dataset))
    check_prior(dataset, plan)
    item = dataset.first() if streamed else None if missing_class_pictures(dataset) else dataset[0]
    first = item[0] if isinstance(item, (list, tuple)) else item
    picture = "latent_mean" if config.get("data_cache") else "pixel_values"
    alone = plan and not plan.needs_pictures and first is not None and picture not in first
    needs = () if not plan else ("caption",) if alone else (picture, "caption", *plan.family.of_picture)
    loader = check_loader(config, "train", dataset, needs, item)
    check_buckets(config, dataset, loader, plan)
    if plan and first is not None and "pixel_values" in first:  # the pictures of a cache were checked when it was made
        check_resolution(plan.family, *first["pixel_values"].shape[-2:], "train_dataloader.dataset")


def check_prior(dataset, plan: Plan | None) -> None:
    """Raise InputError for a loss of class pictures, where there are none or losses of the data count them as well."""
    pictures = getattr(dataset, "class_pictures", None)
    for name, loss in plan.losses.items() if plan else ():
        if loss.needs_prior and (pictures is None or pictures.weight):
            raise InputError(
                f"model.losses.{name}: {type(loss).__name__} compares class pictures that the data does not count; give"
                " train_dataloader.dataset.class_images, with class_images.weight=0"
            )


def check_evaluation(config: Config, part: str, plan: Plan | None) -> None:
    """Build the captions and metrics of `part`, "val" or "test", which raise InputError where their files are missing."""
    where = f"{part}_dataloader.dataset"
    dataset = registry.build_part(registry.DATASETS, config[f"{part}_dataloader"].dataset, where)
    check_loader(config, part, dataset, ("caption", "seed") if plan else (), dataset[0])
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
    if plan.losses and not trainable(plan.on_meta):
        raise InputError("the model trains nothing: model.student.frozen, or an adapter's inference_mode, leaves no weight")
    for name, loss in plan.losses.items():
        if loss.compares and not plan.method.compares:
            raise InputError(
                f"model.losses.{name}: {type(plan.method).__name__} has no prediction of the teacher to compare with; set"
                f" model.losses.{name}=None"
            )
    check_sampler(plan, dict(model.get("sampling") or {}))
    return plan


def check_sampler(plan: Plan, sampling: dict) -> None:
    """Raise InputError for a scheduler that does not fit the noise, or arguments that the pipeline does not take."""
    if chosen := sampling.pop("scheduler", None):
        name = chosen.get("type") if isinstance(chosen, Mapping) else chosen
        kind = scheduler_class(str(name))
        plan.noise_schedule.scheduler_changes(kind, "model.sampling.scheduler")
        if plan.family.zero_terminal_snr and not rescales(kind):
            raise InputError(
                f"model.sampling.scheduler={name} cannot rescale its schedule as {plan.family.key}.zero_terminal_snr asks;"
                " use one that can, such as DDIMScheduler"
            )
    check_terminal_snr(plan.noise_schedule, plan.family.zero_terminal_snr, "model.student")
    taken = {name: each for name, each in signature_of(plan.family.pipeline_class.__call__).items() if name not in GIVEN}
    check_keys(sampling, ["scheduler", *taken], "model.sampling")
    for key, value in sampling.items():
        check_fits(f"model.sampling.{key}", value, taken[key])
    if plan.method.sampler_times and plan.losses:
        check_grid(plan, chosen, sampling.get("num_inference_steps"))
    if not isinstance(sampling.get("negative_prompt") or "", str):
        raise InputError("model.sampling.negative_prompt is a list; give one text, which is for all prompts")
    if (steps := sampling.get("num_inference_steps", 1)) > len(plan.noise_schedule):
        raise InputError(
            f"model.sampling.num_inference_steps={steps}: the noise schedule has {len(plan.noise_schedule)} timesteps"
        )
    if sampling.get("height") or sampling.get("width"):
        height, width = (sampling.get(side) or plan.family.native_size for side in ("height", "width"))
        check_resolution(plan.family, height, width, "model.sampling")
        if isinstance(plan.family, UNetFamily) and (height % 8 or width % 8):  # as their pipelines ask for
            raise InputError(f"model.sampling: height={height} and width={width} must be multiples of 8")


def check_intervals(config: Config) -> None:
    """Raise InputError if a checkpoint would fall between two updates: the gradients gathered so far would be lost."""
    counts = config.optim_wrapper.get("accumulative_counts", 1)
    interval = ((config.get("default_hooks") or {}).get("checkpoint") or {}).get("interval", -1)
    if interval > 0 and interval % counts:
        raise InputError(
            f"default_hooks.checkpoint.interval={interval} is no multiple of optim_wrapper.accumulative_counts={counts};"
            f" the nearest is {max(round(interval / counts), 1) * counts}"
        )


def check_turns(config: Config, plan: Plan | None) -> None:
    """Raise InputError if the run ends before the student has learned at all, since its critics were trained alone."""
    updates = config.train_cfg.max_iters // config.optim_wrapper.get("accumulative_counts", 1)
    if plan and updates < (first := plan.method.warmup + plan.method.ratio):
        raise InputError(
            f"train_cfg.max_iters={config.train_cfg.max_iters} makes {updates} updates, and by model.method.warmup and ratio"
            f" the student learns first in update {first}; train longer"
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
    scale, steps = options.get("guidance_scale", 1), options.get("num_inference_steps", 1)
    if steps < 1:
        raise InputError(f"--steps={steps}: give 1 or more")
    trained = plan.method.sampling(plan, options.get("num_inference_steps")) if plan else {}
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
