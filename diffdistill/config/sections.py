"""The sections of a config, its top-level keys: which there are, and what each must be."""

import inspect
import typing
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from mmengine.config import Config
from mmengine.runner import Runner

from diffdistill.config.annotations import check_fits, signature_of
from diffdistill.errors import InputError

OPTIONAL = inspect.Parameter.KEYWORD_ONLY
# Sections that MMEngine's Runner does not take, and those that it says too little or something else of -> what they must be.
OWN: dict[str, object] = {
    "default_hooks": Mapping[str, Mapping | None] | None,  # None drops a hook
    "custom_hooks": list[Mapping] | tuple[Mapping, ...] | None,
    "log_level": typing.Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    "default_scope": typing.Literal["diffdistill"],
    "launcher": typing.Literal["none", "pytorch", "slurm", "mpi"],
    "custom_imports": Mapping | None,
    "data_cache": str | None,
    "stages": list[Mapping] | tuple[Mapping, ...] | None,
    "model_wrapper_cfg": Mapping | None,
    "find_unused_parameters": bool,
    "compile": bool | Mapping,
}
SECTIONS = {name: each for name, each in signature_of(Runner).items() if name not in OWN} | {
    name: inspect.Parameter(name, OPTIONAL, annotation=annotation) for name, annotation in OWN.items()
}
# Of each of these groups a run has all or none.
TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)


def check_sections(config: Config) -> None:
    """Raise InputError for a section of the wrong kind, or for a name that is nearly a section's.

    Other names are a user's own, such as `image_size = 1024` above where it is used.
    """
    for name in config:
        if name not in SECTIONS and (near := get_close_matches(name, SECTIONS, n=1, cutoff=0.8)):
            raise InputError(f"the config has {name}, which nothing reads; {near[0]} was meant? Else name it otherwise")
    for name, value in config.items():
        if name in SECTIONS:
            check_fits(name, value, SECTIONS[name])


def check_names(keys: Iterable[str], config: Config, where: str) -> None:
    """Raise InputError for one of the dotted `keys`, given at `where`, whose section neither is known nor in `config`."""
    known = {*config, *SECTIONS}
    for key in keys:
        section = str(key).split(".")[0]
        if section not in known:
            near = get_close_matches(section, known, n=3, cutoff=0.5) or sorted(config)
            raise InputError(f"{where} {key}: the config has no {section}; the nearest: {', '.join(near)}")


def check_together(config: Config) -> None:
    """Raise InputError for half a training, validation or test."""
    for group in TOGETHER:
        lacking = [name for name in group if config.get(name) is None]
        if lacking and len(lacking) < len(group):
            there = [name for name in group if name not in lacking]
            raise InputError(
                f"{', '.join(there)}: without {' and '.join(lacking)} nothing uses it; give all of {', '.join(group)},"
                " or set all of them to None"
            )
