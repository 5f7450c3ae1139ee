"""Registries of diffdistill, children of MMEngine's, so that configs name every part by a string."""

from mmengine import registry as mmengine_registry
from mmengine.config import utils as config_utils
from mmengine.registry import Registry

# Lets a config outside this repository inherit with `_base_ = ["diffdistill::shapes/small_sd_xl_shapes.py"]`.
config_utils.PKG2PROJECT.setdefault("diffdistill", "diffdistill")


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope="diffdistill", locations=[f"diffdistill.{place}" for place in locations])


MODELS = _child("model", mmengine_registry.MODELS, "models", "families", "methods", "losses")
ADAPTERS = Registry("adapter", scope="diffdistill", locations=["diffdistill.models.adapters"])  # configs of peft
DATASETS = _child("dataset", mmengine_registry.DATASETS, "datasets")
TRANSFORMS = _child("transform", mmengine_registry.TRANSFORMS, "datasets")
HOOKS = _child("hook", mmengine_registry.HOOKS, "hooks")
METRICS = _child("metric", mmengine_registry.METRICS, "metrics")
OPTIM_WRAPPERS = _child("optim_wrapper", mmengine_registry.OPTIM_WRAPPERS, "engine")
LOOPS = _child("loop", mmengine_registry.LOOPS, "engine")

# MMEngine warns for every kind of part that a scope has no registry of, so each of the others gets an empty child.
for _name in (
    "DATA_SAMPLERS",
    "EVALUATOR",
    "FUNCTIONS",
    "LOG_PROCESSORS",
    "MODEL_WRAPPERS",
    "OPTIMIZERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "PARAM_SCHEDULERS",
    "RUNNERS",
    "VISBACKENDS",
    "VISUALIZERS",
):
    _parent = getattr(mmengine_registry, _name)
    _child(_parent.name, _parent, "registry")
