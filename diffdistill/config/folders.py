"""Where a run may write: nowhere that it reads from, and over nothing that no run has made."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

from diffdistill.engine.resuming import flatten
from diffdistill.errors import InputError
from diffdistill.files import check_folder, read_json

LOGS = re.compile(r"\d{8}_\d{6}")  # MMEngine's folder of logs, which a run makes before it writes anything else
STAGE = re.compile(r"stage_\d+_.+")
FIGURES = {"results.json": "versions", "report.json": "starts"}  # of a run, each with a key that no other such file has
WRITTEN = (*FIGURES, "report.html", "samples", "scheduler", "skipped.jsonl")  # by every run, beside what it trains
READS = ("model", "train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator", "stages")
NO_INPUT = ("class_images", "prompt", "prompts", "type")  # in these, what a run makes itself, and words
NAMES = ("checkpoint", "source")  # of folders and files, even without a slash


def check_work_folder(config: Config) -> None:
    """Raise InputError for a `work_dir`, or a folder of class pictures, in which a run could do harm.

    It must be apart from the pipelines and data sets that `config` reads, hold no pipeline and no model of its own, and
    whatever a run would write over must be of a run: see `is_run`.
    """
    check_folder(config.work_dir, "--work-dir")
    check_apart(config.work_dir, "--work-dir", config)
    folder = Path(config.work_dir)
    if folder.is_dir() and not is_run(folder):
        dumped = Path(config.filename).name if config.filename else ""  # a run writes its config, with all changes, there
        for path in sorted(folder.iterdir()):
            if path.name in (*WRITTEN, dumped) or (path / "config.json").exists():
                raise InputError(
                    f"--work-dir={config.work_dir}: a run would write over {path.name} there, which no run has made;"
                    " choose another folder"
                )
    wanted = config.train_dataloader.dataset.get("class_images") if "train_dataloader" in config else None
    if isinstance(wanted, Mapping) and wanted.get("folder"):
        check_apart(wanted["folder"], "class_images.folder", config)


def check_apart(folder: str, option: str, config: Mapping) -> None:
    """Raise InputError if `folder`, given as `option`, is a pipeline or a model, or overlaps with what `config` reads."""
    check_no_model(folder, option)
    own = Path(folder).expanduser().resolve()
    for key, path in inputs(config):
        if own == path or own in path.parents or (path in own.parents and path.is_dir()):
            raise InputError(
                f"{option}={folder}: the run reads {path}, its {key}, and would write there; choose a folder apart from it"
            )


def check_no_model(folder: str, option: str) -> None:
    """Raise InputError if `folder`, given as `option`, is a pipeline, or the folder of a model or scheduler in one."""
    for name in ("model_index.json", "config.json", "scheduler_config.json"):
        if Path(folder).expanduser().joinpath(name).exists():
            kind = "a pipeline" if name == "model_index.json" else "a model"
            raise InputError(f"{option}={folder}: it holds {kind} ({name}), not a run; choose another folder")


def inputs(config: Mapping) -> Iterator[tuple[str, Path]]:
    """Key and path of every folder, and of every file that is a `source` of data, that a config names and that exists."""
    for section in READS:
        for key, value in flatten(config.get(section), section):
            parts = key.split(".")
            if not isinstance(value, str) or not set(parts).isdisjoint(NO_INPUT):
                continue
            name = parts[-1]
            path = existing(value) if "/" in value or name in NAMES else None
            if path and (path.is_dir() or name == "source"):
                yield key, path


def existing(name: str) -> Path | None:
    """The path `name` without links, if there is such a file or folder."""
    try:
        path = Path(name).expanduser()
        return path.resolve() if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a path, with a zero byte, or "~" of nobody
        return None


def is_run(folder: Path) -> bool:
    """Whether a run, or one in stages, has written to `folder`: its logs, its last checkpoint or its figures are there."""
    for path in folder.iterdir():
        if LOGS.fullmatch(path.name) or path.name == "last_checkpoint":
            return True
        if STAGE.fullmatch(path.name) and path.is_dir() and is_run(path):
            return True
    return any(has_key(folder / name, key) for name, key in FIGURES.items())


def has_key(file: Path, key: str) -> bool:
    """Whether the JSON file `file` holds a dict with `key`."""
    try:
        return key in read_json(file)
    except InputError:
        return False
