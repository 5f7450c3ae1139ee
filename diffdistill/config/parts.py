"""The parts of a config: every dict that says its `type` must be one that can be built as it is written."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

import diffusers
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from diffdistill import registry
from diffdistill.config.read import LOADERS
from diffdistill.errors import InputError
from diffdistill.models.base import DiffusionModel

OF_LOADERS = (registry.DATASETS, registry.TRANSFORMS, mmengine_registry.DATA_SAMPLERS, mmengine_registry.FUNCTIONS)
OF_OPTIMIZER = mmengine_registry.OPTIMIZERS, mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS
# Section of a config -> the registries of the parts inside it, however deep.
SECTIONS: dict[str, Sequence[Registry]] = {
    "model": (registry.MODELS, registry.ADAPTERS),
    **dict.fromkeys(LOADERS, OF_LOADERS),
    **dict.fromkeys(("val_evaluator", "test_evaluator"), (registry.METRICS, mmengine_registry.EVALUATOR)),
    **dict.fromkeys(("train_cfg", "val_cfg", "test_cfg"), (registry.LOOPS,)),
    "optim_wrapper": (registry.OPTIM_WRAPPERS, *OF_OPTIMIZER),
    "param_scheduler": (mmengine_registry.PARAM_SCHEDULERS,),
    **dict.fromkeys(("default_hooks", "custom_hooks"), (registry.HOOKS,)),
    "model_wrapper_cfg": (mmengine_registry.MODEL_WRAPPERS,),
    "visualizer": (mmengine_registry.VISUALIZERS, mmengine_registry.VISBACKENDS),
    "log_processor": (mmengine_registry.LOG_PROCESSORS,),
}
ANYWHERE = tuple(dict.fromkeys(each for parts in SECTIONS.values() for each in parts))  # of sections that a user has added
# What MMEngine builds itself, so that nothing of ours says there that a type is missing.
BUILT_BY_MMENGINE = (
    *(f"{loader}.{part}" for loader in LOADERS for part in ("dataset", "sampler")),
    *("optim_wrapper", "optim_wrapper.optimizer", "param_scheduler.*", "default_hooks.*", "custom_hooks.*"),
    *("val_evaluator.*", "test_evaluator.*"),
)
# Arguments that a part is given where it is built, and not by a config.
PROVIDED = ("module", "dataset", "dataloader", "evaluator", "runner", "params", "optimizer", "data_batch", "save_dir")


def check_parts(config: Config) -> None:
    """Raise InputError for a part of an unknown type, or with an argument that its type does not take or lacks."""
    whole = config.to_dict()
    whole.pop("stages", None)  # each is checked when it is merged
    for path in BUILT_BY_MMENGINE:
        for where, part in find(whole, path):
            registry.check_has_type(part, where)
    for section, content in whole.items():
        for where, part in walk(content, section):
            check_part(part, SECTIONS.get(section, ANYWHERE), where)
    for name in LOADERS:
        check_keys(config.get(name) or {}, [*inspect.signature(DataLoader).parameters, "num_batch_per_epoch"], name)
    check_keys(config.get("randomness") or {}, list(inspect.signature(Runner.set_randomness).parameters)[1:], "randomness")


def walk(content, where: str) -> Iterator[tuple[str, Mapping]]:
    """Every dict inside `content`, itself included, that says its type, with its full name."""
    if isinstance(content, Mapping):
        if "type" in content:
            yield where, content
        items: Iterable = content.items()
    elif isinstance(content, (list, tuple)):
        items = enumerate(content)
    else:
        return
    for key, item in items:
        yield from walk(item, f"{where}.{key}")


def find(config: Mapping, path: str) -> Iterator[tuple[str, object]]:
    """What `config` has at a dotted `path`, with its full name; a `*` at the end stands for the entries of a section."""
    section, many, content = path.removesuffix(".*"), path.endswith(".*"), config
    for part in section.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    if content is not None:
        yield from entries(content, section) if many else [(section, content)]


def entries(section, where: str) -> Iterator[tuple[str, object]]:
    """The parts of a section that is a list or dict of them, or a single one, with their full names; None is left out."""
    if isinstance(section, Mapping) and "type" in section:
        yield where, section
    elif section is not None:
        items = section.items() if isinstance(section, Mapping) else enumerate(section)
        yield from ((f"{where}.{key}", item) for key, item in items if item is not None)


def check_part(part: Mapping, registries: Sequence[Registry], where: str) -> None:
    """Raise InputError if the type of `part` is in none of `registries`, or does not take its arguments."""
    kind = part["type"] if not isinstance(part["type"], str) else find_type(part["type"], registries)
    if kind is None:
        own = [name for each in registries for name in each.module_dict]
        inherited = [name for each in registries if each.parent for name in each.parent.module_dict]
        near = get_close_matches(part["type"], [*own, *inherited], n=3, cutoff=0.5) or sorted(own)
        raise InputError(f"{where}.type={part['type']!r} is unknown; the nearest: {', '.join(near)}")
    parameters = parameters_of(kind, part)
    named = {name: each for name, each in parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        check_keys(part, list(named), where)
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in (*part, *PROVIDED):
            raise InputError(f"{where}.{name} is missing; {part['type']} needs it")


def find_type(name: str, registries: Sequence[Registry]) -> Callable | None:
    """What `name` stands for in one of `registries`, or among the schedulers of diffusers; None if nowhere."""
    with contextlib.suppress(RuntimeError):  # MMEngine's answer to a dotted name that it cannot import
        for each in registries:
            if (kind := each.get(name)) is not None:
                return kind
    return getattr(diffusers, name, None) if name.endswith("Scheduler") else None


def parameters_of(kind: Callable, part: Mapping) -> dict[str, inspect.Parameter]:
    """The arguments that `kind` takes from a config."""
    parameters = dict(inspect.signature(kind).parameters)
    if isinstance(kind, type) and issubclass(kind, DiffusionModel):  # its plan takes them
        own = inspect.signature(DiffusionModel).parameters["data_preprocessor"]
        return {"data_preprocessor": own, **inspect.signature(kind.plan_class).parameters}
    if isinstance(kind, type) and issubclass(kind, EMAHook):  # what it does not know it hands to the average
        average = mmengine_registry.MODELS.get(part.get("ema_type", "ExponentialMovingAverage"))
        own = {name: each for name, each in parameters.items() if each.kind is not each.VAR_KEYWORD}
        theirs = {name: each for name, each in inspect.signature(average).parameters.items() if name != "model"}
        return theirs | own
    return parameters


def check_keys(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise InputError for a key of the section `where` that is not `known`."""
    for key in given:
        if key not in known and key not in ("type", "_scope_"):  # MMEngine marks inherited parts with their scope
            raise InputError(f"{where}.{key} is not a key of the config; the nearest: {nearest(key, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like `name`; all of them where none is like it."""
    known = sorted(known)
    return ", ".join(get_close_matches(name, known, n=3, cutoff=0.5) or known)
