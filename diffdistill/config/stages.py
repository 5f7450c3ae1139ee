"""Configs in stages: one student goes through several trainings, one after the other.

`stages` of a config is a list of dicts: a `name`, and whatever keys of the config differ in that stage. Without more, a
stage trains the student of the stage before it on (a swap of teachers, as SSD-1B was made; Gupta et al., 2024). With
`model.teacher.denoiser="previous"` that student becomes the teacher, of a smaller one (progressive shrinking).
"""

import copy
import re
from pathlib import Path

from mmengine.config import Config

from diffdistill.config.check import check, check_model
from diffdistill.config.read import drop_worker_options
from diffdistill.config.sections import check_names, check_sections
from diffdistill.errors import InputError
from diffdistill.families.architectures import planning
from diffdistill.models.distiller import Distiller
from diffdistill.models.student import StudentPlan
from diffdistill.registry import MODELS
from diffdistill.students.cut import first_difference, state_on_meta
from diffdistill.students.denoisers.rules import rules_of

PREVIOUS = "previous"


def stage_configs(config: Config) -> list[Config]:
    """The config of every stage: it writes to `<run>/stage_<n>_<name>`, and has a seed of its own, so its batches differ."""
    names = [stage.get("name") for stage in config.stages]
    if len(set(names)) < len(names) or not all(re.fullmatch(r"[\w-]+", str(name or "")) for name in names):
        raise InputError(f"stages: each needs a name of its own, of letters, digits, - and _; they have {names}")
    configs: list[Config] = []
    for number, stage in enumerate(copy.deepcopy(config.stages), 1):
        name = stage.pop("name")
        title = f"stage {number} of {len(names)}: {name}"
        merged = config.to_dict()
        del merged["stages"]
        merged = Config(merged, filename=config.filename)
        if merged.get("randomness", {}).get("seed") is not None:
            merged.randomness.seed += number - 1
        check_names(stage, config, f"{title}:")
        try:
            merged.merge_from_dict(stage)
            check_sections(merged)
        except (TypeError, KeyError, InputError) as error:
            raise InputError(f"{title}: {error}") from None
        drop_worker_options(merged)
        merged.work_dir = str(Path(config.work_dir, f"stage_{number}_{name}"))
        merged.experiment_name = f"{run_name(config)}_stage_{number}_{name}"
        merged.custom_hooks = [*merged.get("custom_hooks", []), dict(type="StageHook", title=title)]
        if not issubclass(MODELS.get(merged.model.type), Distiller) or (merged.model.get("student") or {}).get("adapter"):
            raise InputError(
                f"{title}: a stage hands a whole student on; model.type must be a Distiller, without an adapter"
            )
        merged.model.setdefault("student", {})
        if configs:
            start_from(configs, merged.model)
        elif merged.model.teacher.get("denoiser") == PREVIOUS:
            raise InputError(f"{title}: model.teacher.denoiser='previous', but no stage is before it")
        configs.append(merged)
    return configs


def run_name(config: Config) -> str:
    """The name of a run: that of its config file, or of its folder where it has no file."""
    return Path(config.filename or config.work_dir).stem


def title_of(stage: Config) -> str:
    """The title of a stage, which `stage_configs` has put into its StageHook."""
    return stage.custom_hooks[-1].title


def exported(stage: Config) -> Path:
    """The folder of the student that a stage leaves."""
    return Path(stage.work_dir, MODELS.get(stage.model.teacher.type).denoiser_name)


def start_from(before: list[Config], model: dict) -> None:
    """Make the student of the stage before the teacher of `model` where that says "previous", else its first weights."""
    last = before[-1]
    shrinks = model.teacher.get("denoiser") == PREVIOUS
    if shrinks:
        model.teacher.denoiser = str(exported(last))
        own = last.model.student.get("prediction_type")
        model.teacher.prediction_type = own or last.model.teacher.get("prediction_type")
        with planning():
            plan = plan_stages(before)[-1]
        model.sampling = {**plan.sampling, **plan.student_sampling}  # the new teacher is sampled as it was trained to be
    model.student.checkpoint = None if shrinks else str(exported(last))


def last_stage(config: Config) -> Config:
    """Of a config in stages the last one, with the run's own folder; any other config as it is."""
    if not config.get("stages"):
        return config
    last = stage_configs(config)[-1]
    last.work_dir = config.work_dir
    return last


def plan_stages(configs: list[Config]) -> list[StudentPlan]:
    """The plan of every stage, none of which needs to be trained. Raises InputError for one that does not fit the next."""
    plans: list[StudentPlan] = []
    for number, config in enumerate(configs):
        model = copy.deepcopy(config.model)
        goes_on = number > 0 and model.student.checkpoint is not None
        if number:
            model.student.checkpoint = None
            if not goes_on:
                model.teacher.denoiser = dict(plans[-1].config)
        try:
            plans.append(check_model(model))
            if goes_on:
                check_same_student(*plans[-2:])
        except InputError as error:
            raise InputError(f"{title_of(config)}: {error}") from None
    return plans


def check_stages(configs: list[Config]) -> list[StudentPlan]:
    """The plan of every stage, once all that is checked of a run has been checked of each: the last begins after days."""
    plans = plan_stages(configs)
    for config, plan in zip(configs, plans, strict=True):
        check_stage(config, plan)
    return plans


def check_stage(config: Config, plan: StudentPlan) -> None:
    """Check a stage, whose teacher or first weights need not be there yet; an InputError names the stage."""
    try:
        check(config, config.get("load_from"), plan)
    except InputError as error:
        raise InputError(f"{title_of(config)}: {error}") from None


def check_same_student(before: StudentPlan, after: StudentPlan) -> None:
    """Raise InputError unless both have the same tensors; a stage may only add an embedding of the guidance scale."""
    expected, denoiser = dict(before.config), before.family.denoiser_class
    if after.guidance_embedding:
        key = rules_of(denoiser).guidance_key
        expected[key] = after.config[key]
    found, expected = (state_on_meta(denoiser, config) for config in (after.config, expected))
    if difference := first_difference(found, expected):
        raise InputError(
            f"model.student.keep is not the student of the stage before: {difference}; keep the same layers, or make that"
            " student the teacher with model.teacher.denoiser='previous'"
        )
