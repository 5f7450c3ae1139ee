"""Finding and reading configs."""

import importlib.util
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config

import diffdistill.registry  # noqa: F401  (makes `_base_ = ["diffdistill::..."]` known)
from diffdistill.config.sections import check_names, check_sections
from diffdistill.errors import InputError

IMPORTS = "imports", "allow_failed_imports"  # keys of `custom_imports`
PACKAGE = Path(__file__).parent.parent
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
MODEL_PARTS = {  # what files of configs/_base_ offer for `model`, and how a config takes it
    "cut": '_base_.model.merge(_base_.pop("cut"))',
    "method": '_base_.model.merge(_base_.pop("method"))',
    "adapter": 'model = dict(adapter=_base_.pop("adapter"))',
}
MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


def config_root() -> Path:
    """The folder of the project's configs: beside the package in a checkout, inside it in a wheel."""
    inside = PACKAGE / ".mim" / "configs"
    return inside.resolve() if inside.exists() else PACKAGE.parent / "configs"  # an editable install has a link there


def find_config(name: str) -> Path:
    """The config file `name`: a path, or the base name of a config of the project, with or without `.py`."""
    if Path(name).is_file():
        return Path(name)
    configs = {path.stem: path for path in config_root().rglob("*.py") if "_base_" not in path.parts}
    stem = Path(name).stem
    if Path(name).name == name and stem in configs:
        return configs[stem]
    near = get_close_matches(stem, configs, n=3, cutoff=0.3) or sorted(configs)
    raise InputError(f"config {name!r} is neither a file nor one of the project's configs; the nearest: {', '.join(near)}")


def short_name(file: str) -> str:
    """What a config's student is called in tables and grids: its base name, without the teacher and the data."""
    return Path(file).stem.split("_distill")[0]


def find_protocol(name: str) -> Path:
    """The evaluation config `name`: a path, or the name of one in the project's `_base_/evaluation`."""
    if Path(name).is_file():
        return Path(name)
    configs = {path.stem: path for path in (config_root() / "_base_" / "evaluation").glob("*.py")}
    if Path(name).stem not in configs:
        raise InputError(f"--protocol {name}: neither a file nor one of {', '.join(sorted(configs))}")
    return configs[Path(name).stem]


def load_config(name: str, options: dict | None = None, work_dir: str | None = None, protocol: str | None = None) -> Config:
    """The config `name` with `options` (dotted key -> value) merged in; `work_dir` defaults to `work_dirs/<config>`.

    The keys of an evaluation config `protocol` replace those of the config.
    """
    path = find_config(name)
    config = read_config(path)
    check_model_parts(config, path)
    for key, value in (read_config(find_protocol(protocol)) if protocol else {}).items():
        config[key] = value
    drop_scopes(config._cfg_dict)
    merge_options(config, options or {})
    check_sections(config)
    import_modules(config, path.parent)
    drop_hooks(config)
    drop_worker_options(config)
    config.work_dir = work_dir or config.get("work_dir") or str(Path("work_dirs", path.stem))
    return config


def read_config(path: Path) -> Config:
    """The config file at `path`, with what it inherits. Its `custom_imports` are not imported yet."""
    try:
        check_files(path)
        return Config.fromfile(path, import_custom_modules=False)
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(f"config {path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # a config is Python: whatever it raises is a mistake in it
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
        if isinstance(error, FileNotFoundError):
            missing = str(error.filename or error).removeprefix('file "').removesuffix('" does not exist')
            reason = f"its _base_ {missing} does not exist"
            if missing.endswith("model-index.yml"):  # where MMEngine looks for `diffdistill::...`
                reason = "_base_ `diffdistill::...` needs the package installed; run `pip install -e .` in its checkout"
        raise InputError(f"config {path} cannot be read: {reason}") from error


def check_files(path: Path, heirs: tuple[Path, ...] = ()) -> None:
    """Raise InputError if the config at `path`, or one that it inherits, is no `.py` file or inherits itself.

    MMEngine would load others by a YAML loader that runs what a tag says, and follow a circle until Python's stack is full.
    """
    path = path.resolve()
    if path.suffix != ".py":
        raise InputError(f"config {path}: a config is a Python file, whose name ends in .py; other kinds are not read")
    if path in heirs:
        names = " from ".join(each.name for each in [*heirs[heirs.index(path) :], path])
        raise InputError(f"config {path}: its _base_ goes in a circle; {names}")
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    for base in Config._get_base_files(str(path)):
        check_files(Path(Config._get_cfg_path(base, str(path))[0]), (*heirs, path))


def import_modules(config: Config, folder: Path) -> None:
    """Import the `custom_imports` of `config`, which may lie in `folder`, that of its file, or in the current one.

    The current one is for the config that a run leaves in its folder, far from the modules.
    """
    section = config.get("custom_imports") or {}
    for key in section:
        if key not in IMPORTS:
            raise InputError(f"custom_imports.{key} is not a key of the config; the nearest: {', '.join(IMPORTS)}")
    names = section.get("imports") or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(f"custom_imports.imports={names!r} must be a list of names of modules")
    for name in names:
        import_module(name, folder.resolve(), section.get("allow_failed_imports", False))


def import_module(name: str, folder: Path, may_fail: bool) -> None:
    """Import the module `name`, if need be from `folder` or the current one, which are then searched last from now on."""
    try:
        if importlib.util.find_spec(name.split(".")[0]) is None:
            sys.path += [str(place) for place in (folder, Path.cwd()) if str(place) not in sys.path]
        importlib.import_module(name)
    except Exception as error:  # whatever a user's module raises
        if isinstance(error, ImportError) and may_fail:
            return
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(
            f"custom_imports.imports: {name} cannot be imported ({reason}); modules are looked for where Python looks"
            f" (PYTHONPATH), in {folder} and in the current folder"
        ) from error


def check_model_parts(config: Config, path: Path) -> None:
    """Raise InputError for a part that the config at `path` inherits and has not put into its model: it would do nothing."""
    for part, statement in MODEL_PARTS.items():
        if part in config:
            raise InputError(f"config {path}: the inherited {part} is in no model; write `{statement}` below its _base_")


def merge_options(config: Config, options: dict) -> None:
    """Merge dotted keys into `config`. Raises InputError for a first part that neither it nor MMEngine's Runner knows."""
    check_names(options, config, "--cfg-options")
    try:
        config.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"--cfg-options: {' '.join(str(error).split())}") from error


def drop_hooks(config: Config) -> None:
    """Drop `default_hooks` that are None: MMEngine does so for its own hooks alone."""
    for name, hook in list((config.get("default_hooks") or {}).items()):
        if hook is None and name not in MMENGINE_HOOKS:
            config.default_hooks.pop(name)


def drop_worker_options(config: Config) -> None:
    """Drop what a DataLoader without workers refuses, so that `train_dataloader.num_workers=0` alone turns them off."""
    for name in LOADERS:
        loader = config.get(name)
        if loader and not loader.get("num_workers"):
            for key in ("persistent_workers", "prefetch_factor"):
                loader.pop(key, None)


def drop_scopes(section) -> None:
    """Drop the marks of `_base_ = ["diffdistill::..."]`: MMEngine sets them in every dict, arguments of a call included."""
    if isinstance(section, dict):
        if section.get("_scope_") == "diffdistill":
            del section["_scope_"]
        section = section.values()
    if not isinstance(section, str) and isinstance(section, Iterable):
        for item in section:
            drop_scopes(item)
