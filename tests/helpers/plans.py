"""What the configs decide, without a network and without weights: each plan is made once a session."""

import json
from functools import cache

from diffusers import UNet2DConditionModel
from mmengine.config import Config

from diffdistill.config.read import config_root, load_config
from diffdistill.families.architectures import planning
from diffdistill.models.distiller import StudentPlan
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


def unet(config: dict) -> UNet2DConditionModel:
    """The denoiser of a diffusers config on the meta device."""
    return build_on_meta(UNet2DConditionModel, config).eval()
