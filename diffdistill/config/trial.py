"""What a config builds beside its model, built once for trial: the objects themselves say best what they do not take."""

import copy
import inspect
from collections.abc import Iterator, Mapping

import torch
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.optim import AmpOptimWrapper, _ParamScheduler
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from diffdistill import registry
from diffdistill.config.parts import entries, find_type
from diffdistill.engine.networks import STUDENT, check_networks
from diffdistill.engine.precision import MixedPrecision
from diffdistill.engine.runner import build_dataloader
from diffdistill.errors import InputError
from diffdistill.files import check_folder
from diffdistill.models.plan import Plan

WHY_NOT = TypeError, ValueError, KeyError, AssertionError, RuntimeError, ImportError, NotImplementedError, AttributeError


def check_training(config: Config, plan: Plan | None) -> None:
    """Raise InputError for an optimizer, a schedule, a hook or a loop that cannot be built, or that would do nothing."""
    check_by_iterations(config)
    check_optimizer(config, plan)
    if (config.get("default_hooks") or {}).get("timer", True) is None:
        raise InputError("default_hooks.timer=None: its times go into the log and the figures of a run; leave it")
    scaling = config.get("auto_scale_lr") or {}
    if scaling.get("enable") and "base_batch_size" not in scaling:
        raise InputError("auto_scale_lr.base_batch_size is missing: the batch size that optim_wrapper.optimizer.lr is for")
    for kind in ("default_hooks", "custom_hooks"):
        for where, hook in entries(config.get(kind), kind):
            built = registry.build_part(registry.HOOKS, hook, where)
            if isinstance(built, CheckpointHook):
                check_checkpoints(built, where)
            if isinstance(built, EMAHook):
                average = dict(built.ema_cfg)
                registry.build_part(mmengine_registry.MODELS, dict(average, model=nn.Linear(1, 1)), where)
                if built.begin_iter > config.train_cfg.max_iters:
                    raise InputError(
                        f"{where}.begin_iter={built.begin_iter} is behind the end, train_cfg.max_iters="
                        f"{config.train_cfg.max_iters}; lower it"
                    )


def check_checkpoints(hook: CheckpointHook, where: str) -> None:
    """Raise InputError for checkpoints that overwrite each other, cannot be written, or are to be the best."""
    if hook.out_dir is not None:
        check_folder(hook.out_dir, f"{where}.out_dir")
    if "{}" not in (hook.filename_tmpl or "{}"):
        raise InputError(f"{where}.filename_tmpl={hook.filename_tmpl!r} has no {{}} for the number of the iteration")
    if hook.save_best and type(hook) is not CheckpointHook:
        raise InputError(f"{where}.save_best={hook.save_best!r}: use type='CheckpointHook', or choose by results.json")


def check_by_iterations(config: Config) -> None:
    """Raise InputError for what counts epochs: a run here is counted in iterations, and has one epoch, which never ends."""
    loop = config.train_cfg.get("type")
    kind = find_type(loop, [registry.LOOPS]) if isinstance(loop, str) else loop
    if config.train_cfg.get("by_epoch") or (kind and not issubclass(kind, IterBasedTrainLoop)):
        raise InputError(f"train_cfg.type={loop!r}: a run is counted in iterations here; use 'IterBasedTrainLoop'")
    for where, part in counted(config):
        if part.get("convert_to_iter_based"):
            continue
        if part.get("by_epoch", True):
            raise InputError(f"{where} goes by epochs, and a run is counted in iterations; set {where}.by_epoch=False")
    for where, hook in entries(config.get("default_hooks"), "default_hooks"):
        if hook.get("begin_epoch"):
            raise InputError(f"{where}.begin_epoch={hook['begin_epoch']}: a run is counted in iterations; set begin_iter")


def counted(config: Config) -> Iterator[tuple[str, Mapping]]:
    """The parts of `config` that MMEngine counts in epochs unless they say otherwise."""
    for section in ("param_scheduler", "default_hooks", "custom_hooks"):
        registries = [registry.HOOKS if section.endswith("hooks") else mmengine_registry.PARAM_SCHEDULERS]
        for where, part in entries(config.get(section), section):
            kind = find_type(part["type"], registries) if isinstance(part["type"], str) else part["type"]
            if inspect.isclass(kind) and issubclass(kind, CheckpointHook | _ParamScheduler):
                yield where, part
    if config.get("log_processor") is not None:
        yield "log_processor", config.log_processor


def check_optimizer(config: Config, plan: Plan | None) -> None:
    """Build optimizer, wrapper and schedules around a model of two numbers, and raise InputError for what they refuse.

    With a constructor of one's own, which may want the true model, they are left alone.
    """
    section = dict(config.optim_wrapper)
    if section.pop("constructor", None):
        return
    registry.check_has_type(section.get("optimizer"), "optim_wrapper.optimizer")
    networks = section.pop("paramwise_cfg", None) or {}
    model = nn.Linear(1, 1)
    optimizer = registry.build_part(
        mmengine_registry.OPTIMIZERS, dict(section["optimizer"], params=model.parameters()), "optim_wrapper.optimizer"
    )
    section = dict(dict(type="OptimWrapper"), **section)
    wrapper = registry.build_part(registry.OPTIM_WRAPPERS, dict(section, optimizer=optimizer), "optim_wrapper")
    if plan:
        check_networks(networks, [STUDENT, *plan.critics], [*optimizer.defaults, "max_norm"])
    if plan and plan.critics and not isinstance(wrapper, MixedPrecision):
        raise InputError(
            f"optim_wrapper.type={section['type']!r} knows no turns of {', '.join(plan.critics)}, which"
            f" {type(plan.method).__name__} or a loss trains beside the student; use 'MixedPrecision'"
        )
    if plan and plan.dtype == torch.float16 and not isinstance(wrapper, MixedPrecision | AmpOptimWrapper):
        raise InputError(
            f"optim_wrapper.type={section['type']!r} scales no loss, and model.dtype='float16' needs that, since small"
            " gradients vanish; use 'MixedPrecision', or model.dtype='bfloat16'"
        )
    last = config.train_cfg.max_iters
    for where, schedule in entries(config.get("param_scheduler"), "param_scheduler"):
        if schedule.get("begin", 0) >= last:
            raise InputError(
                f"{where}.begin={schedule['begin']} is not before the end, train_cfg.max_iters={last}; shorten the schedule"
                " as well"
            )
        part = dict(copy.deepcopy(schedule), optimizer=optimizer)
        part.setdefault("end", last)
        if part.get("convert_to_iter_based"):
            part["epoch_length"] = 1
        registry.build_part(mmengine_registry.PARAM_SCHEDULERS, part, where)


def check_loader(config: Config, part: str, dataset, needs: tuple[str, ...], item: dict | list | None) -> DataLoader:
    """The loader of `part`, "train" or "val"; raises InputError where it cannot be built or has no batch, or none of use.

    `needs` are the entries that the model reads; None for `item` leaves them aside.
    """
    where = f"{part}_dataloader"
    try:
        loader = build_dataloader(dict(config[where], dataset=Shared(dataset)), seed=0)
        batch = loader.collate_fn([item]) if item is not None else {}
        # Of a subject there are two samples, its own and one of its class; of everything else one.
        (item, batch) = (item[0], batch[0]) if isinstance(item, (list, tuple)) else (item, batch)
    except WHY_NOT as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{where}: {reason[:300]}") from error
    if item is not None and (lacking := [name for name in needs if name not in item]):
        hint = "; PackInputs, as the last transform of its pipeline, makes them" if "image" in item else ""
        raise InputError(f"{where}.dataset: a sample has {', '.join(item)}, and no {' and no '.join(lacking)}{hint}")
    pictures = [name for name in needs[:1] if name != "caption"] if part == "train" else ()  # captions alone may do
    if pictures and item and not (isinstance(batch, Mapping) and torch.is_tensor(batch[pictures[0]])):
        raise InputError(f"{where}.collate_fn makes no tensor of {pictures[0]}; use dict(type='default_collate')")
    check_has_batch(loader, part)
    return loader


class Shared:
    """A data set that MMEngine does not copy when it builds a loader, as it does with all that a loader's section holds."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __deepcopy__(self, memo: dict) -> "Shared":
        return self

    def __getattr__(self, name: str):
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)


def check_has_batch(loader: DataLoader, part: str) -> None:
    """Raise InputError if `loader` has no batch, or, for validation, no end."""
    where, endless = f"{part}_dataloader", isinstance(getattr(loader.batch_sampler, "sampler", None), InfiniteSampler)
    if part != "train" and endless:
        raise InputError(f"{where}.sampler.type='InfiniteSampler' never ends; use 'DefaultSampler'")
    if getattr(loader.dataset, "streamed", False):
        return
    if not endless and not len(loader):
        raise InputError(
            f"{where}: {len(loader.dataset)} samples are less than a batch of {loader.batch_size}, and drop_last=True leaves"
            " none; lower batch_size, or set drop_last=False"
        )


def check_stream(config: Config) -> None:
    """Raise InputError for what a training set that is a stream cannot have: anything that follows from its length."""
    loader, schedules = config.train_dataloader, entries(config.get("param_scheduler"), "param_scheduler")
    given = [f"train_dataloader.{key}" for key in ("batch_sampler", "num_batch_per_epoch") if loader.get(key)]
    given += [f"{where}.convert_to_iter_based" for where, each in schedules if each.get("convert_to_iter_based")]
    for where in given:
        raise InputError(
            f"{where}: a stream is read in its own order, and its length is not known; drop it, or set"
            " train_dataloader.dataset.type='CaptionedImages'"
        )
