"""The parts of a config: every dict that says its `type` must be one that can be built as it is written."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

import diffusers
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry

from diffdistill import registry
from diffdistill.config.annotations import check_fits
from diffdistill.config.arguments import CLIPPING, parameters_of, untyped
from diffdistill.config.read import LOADERS
from diffdistill.config.values import check_values
from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.methods.base import Method

OF_LOADERS = (registry.DATASETS, registry.TRANSFORMS, registry.DATA_SAMPLERS, mmengine_registry.FUNCTIONS)
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
    *(f"{loader}.{part}" for loader in LOADERS for part in ("dataset", "sampler", "batch_sampler")),
    *("optim_wrapper", "optim_wrapper.optimizer", "param_scheduler.*", "default_hooks.*", "custom_hooks.*"),
    *("val_evaluator.*", "test_evaluator.*"),
)
KINDS = {"model.teacher": Family, "model.base": Family, "model.method": Method}
# Arguments that a part is given where it is built, and not by a config.
PROVIDED = (
    "module",
    "dataset",
    "sampler",
    "dataloader",
    "evaluator",
    "runner",
    "params",
    "optimizer",
    "param_name",
    "data_batch",
    "save_dir",
)


def check_parts(config: Config) -> None:
    """Raise InputError for a part of an unknown type, or with an argument that its type does not take or lacks."""
    whole = config.to_dict()
    whole.pop("stages", None)  # each is checked when it is merged
    for path in BUILT_BY_MMENGINE:
        for where, part in find(whole, path):
            registry.check_has_type(part, where)
    for section, content in whole.items():
        for where, part in walk(content, section):
            if where == CLIPPING:
                continue  # whose type is no class
            check_part(part, SECTIONS.get(section, ANYWHERE), where)
    for where, section, parameters in untyped(whole):
        check_keys(section, list(parameters), where)
        check_arguments(section, parameters, where)
    check_values(whole)


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
    kind = find_type(part["type"], registries) if isinstance(part["type"], str) else part["type"]
    if not callable(kind) and not isinstance(part["type"], str):
        raise InputError(f"{where}.type={part['type']!r} is neither the name of a class nor a class")
    if kind is None:
        own = [name for each in registries for name in each.module_dict]
        inherited = [name for each in registries if each.parent for name in each.parent.module_dict]
        raise InputError(f"{where}.type={part['type']!r} is unknown; the nearest: {nearest(part['type'], own + inherited)}")
    for place, base in KINDS.items():
        if where == place and inspect.isclass(kind) and not issubclass(kind, base):
            raise InputError(f"{where}.type={part['type']!r} is no {base.__name__.lower()}")
    parameters = parameters_of(kind, part)
    named = {name: each for name, each in parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        check_keys(part, list(named), where)
    check_arguments(part, {name: each for name, each in named.items() if name not in PROVIDED}, where)


def check_arguments(given: Mapping, parameters: Mapping[str, inspect.Parameter], where: str) -> None:
    """Raise InputError for an argument that is missing, or whose value is not what its annotation asks for."""
    for name, parameter in parameters.items():
        if name in given:
            check_fits(f"{where}.{name}", given[name], parameter)
        elif parameter.default is parameter.empty:
            raise InputError(f"{where}.{name} is missing" + (f"; {given['type']} needs it" if "type" in given else ""))


def find_type(name: str, registries: Sequence[Registry]) -> Callable | None:
    """What `name` stands for in one of `registries`, or among the schedulers of diffusers; None if nowhere."""
    with contextlib.suppress(RuntimeError):  # MMEngine's answer to a dotted name that it cannot import
        for each in registries:
            if callable(kind := each.get(name)):  # no module, which a dotted name may be
                return kind
    return getattr(diffusers, name, None) if name.endswith("Scheduler") else None


def check_keys(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raise InputError for a key of the section `where` that is not `known`."""
    for key in given:
        if key not in known and key not in ("type", "_scope_"):  # MMEngine marks inherited parts with their scope
            raise InputError(f"{where}.{key} is not a key of the config; the nearest: {nearest(key, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names most like `name`; where none is like it all of them, or five of very many."""
    known = sorted(known)
    few = known if len(known) <= 20 else get_close_matches(name, known, n=5, cutoff=0)
    return ", ".join(get_close_matches(name, known, n=3, cutoff=0.5) or few)
