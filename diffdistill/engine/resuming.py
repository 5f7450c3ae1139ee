"""What a resumed run has that it had not before: which settings, and learning rates that follow the new ones."""

import json
import warnings
from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.runner import Runner

from diffdistill.errors import InputError

# What may differ without changing what is trained.
ELSEWHERE = ("work_dir", "resume", "load_from", "launcher", "env_cfg", "log_level", "visualizer", "experiment_name")
OF_UPDATES = ("optim_wrapper.optimizer.", "optim_wrapper.paramwise_cfg", "param_scheduler")
LISTED = 20


def settings_of(config: Config) -> str:
    """All values of a config by their dotted keys, as JSON, which is safe to read from a checkpoint of someone else."""
    content = {key: value for key, value in config.to_dict().items() if key not in ELSEWHERE}
    return json.dumps(dict(flatten(content)), default=lambda value: getattr(value, "__name__", str(value)))


def flatten(value, name: str = ""):
    """Yield dotted names and the values that are no dicts or lists, of a nested `value`; empty ones are values."""
    if isinstance(value, (Mapping, list, tuple)) and value:
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from flatten(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def changed_settings(meta: Mapping, runner: Runner) -> dict[str, tuple]:
    """Dotted key -> (before, now) of what differs between a checkpoint's `meta` and the run that resumes from it.

    A key that one of them lacks is None there. Empty for a checkpoint that has no settings.
    """
    if "settings" not in meta:
        return {}
    before, now = json.loads(meta["settings"]), json.loads(settings_of(runner.cfg))
    keys = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    changed = {key: (before.get(key), now.get(key)) for key in keys}
    if meta.get("world_size", runner.world_size) != runner.world_size:
        changed["ranks"] = (meta["world_size"], runner.world_size)
    return changed


def follow_config(runner: Runner, fresh: Sequence[Mapping]) -> None:
    """Give the resumed optimizer the settings of the config, and its schedules the values that they had had by now.

    `fresh` are the parameter groups, without parameters, as the config alone makes them. A checkpoint would keep its own.
    """
    for group, values in zip(runner.optim_wrapper.param_groups, fresh, strict=True):
        group.update(values | {key: values[f"initial_{key}"] for key in values if f"initial_{key}" in values})
    if runner.param_schedulers is None:
        return
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no update comes between these steps
        for _ in range(runner.iter):
            for scheduler in runner.param_schedulers:
                scheduler.step()


def describe_changes(changed: Mapping[str, tuple]) -> str:
    """One line that lists settings which differ, and what follows from it."""
    texts = [f"{key} {before!r} -> {now!r}" for key, (before, now) in list(changed.items())[:LISTED]]
    more = f" and {len(changed) - LISTED} more" if len(changed) > LISTED else ""
    line = f"the run goes on with other settings than it had: {'; '.join(texts)}{more}"
    if "train_cfg.max_iters" in changed and not any(key.startswith("param_scheduler") for key in changed):
        line += ". Schedules of the learning rate were left as they were: beyond their end it stays where they leave it"
    return line


def check_same_optimizer(meta: Mapping, config: Config, file: str) -> None:
    """Raise InputError where a checkpoint has the state of an optimizer of another type than `config` asks for."""
    before = json.loads(meta.get("settings", "{}")).get("optim_wrapper.optimizer.type")
    now = config.optim_wrapper.optimizer.type
    now = now if isinstance(now, str) else now.__name__
    if before and before.rpartition(".")[2] != now.rpartition(".")[2]:
        raise InputError(
            f"optim_wrapper.optimizer.type={now!r}, but {file} has the state of {before}: resume with that, or start a run"
            " of its own from the student (model.student.checkpoint)"
        )
