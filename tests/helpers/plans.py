"""What the configs decide, without a network and without weights: each plan is made once a session."""

import json
from functools import cache

import diffusers
from mmengine.config import Config

from diffdistill.config.read import config_root, load_config
from diffdistill.families.architectures import load_architecture, planning
from diffdistill.models.student import StudentPlan
from diffdistill.students.cut import build_on_meta

RUNS = sorted(path for path in config_root().rglob("*.py") if "_base_" not in path.parts)


@cache
def read(name: str) -> Config:
    """The config `name`, which several tests read and none may change."""
    return load_config(name)


def is_student(config: Config) -> bool:
    return bool(config.model.get("student", {}).get("keep"))


def compares_features(name: str) -> bool:
    config = read(name)
    return is_student(config) and "stages" not in config and bool(config.model.losses.get("feature"))


def keep_of_cut(name: str) -> dict:
    return Config.fromfile(config_root() / "_base_" / "cuts" / f"{name}.py").cut.student.keep.to_dict()


def students() -> list[str]:
    """The configs with a cut of a teacher that is not embedded."""
    return [path.stem for path in RUNS if path.parent.name != "shapes" and is_student(read(path.stem))]


@cache
def plan_of(model: str) -> StudentPlan:
    with planning():
        return StudentPlan(**json.loads(model))


def plan(name: str) -> StudentPlan:
    """What a config decides; configs that agree on it share one plan."""
    model = read(name).model.to_dict()
    keys = {key: model[key] for key in ("teacher", "student", "feature_pairs", "losses")}
    keys["losses"] = {name: dict(type=loss["type"]) for name, loss in keys["losses"].items() if loss}
    keys["student"].pop("checkpoint", None)
    return plan_of(json.dumps(keys, sort_keys=True))


def denoiser_config(architecture: str) -> dict:
    """The diffusers config of the denoiser of an architecture."""
    files = load_architecture(architecture)
    return next(files[path] for path in ("unet/config.json", "transformer/config.json") if path in files)


def denoiser_class(config: dict) -> type:
    """The class that a diffusers config names; UNets where it names none."""
    return getattr(diffusers, config.get("_class_name", "UNet2DConditionModel"))


def denoiser(config: dict, kind: type | None = None) -> diffusers.ModelMixin:
    """The denoiser of a diffusers config on the meta device, of the class `kind` or of the one that the config names."""
    return build_on_meta(kind or denoiser_class(config), config).eval()
