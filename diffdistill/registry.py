"""Registries of diffdistill, children of MMEngine's, so that configs name every part by a string."""

from collections.abc import Mapping

from mmengine import registry as mmengine_registry
from mmengine.config import utils as config_utils
from mmengine.registry import Registry

from diffdistill.errors import InputError

# Lets a config outside this repository inherit with `_base_ = ["diffdistill::shapes/small_sd_xl_shapes.py"]`.
config_utils.PKG2PROJECT.setdefault("diffdistill", "diffdistill")


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope="diffdistill", locations=[f"diffdistill.{place}" for place in locations])


MODELS = _child("model", mmengine_registry.MODELS, "models", "families", "methods", "losses")
ADAPTERS = Registry("adapter", scope="diffdistill", locations=["diffdistill.models.adapters"])  # configs of peft
DATASETS = _child("dataset", mmengine_registry.DATASETS, "datasets")
TRANSFORMS = _child("transform", mmengine_registry.TRANSFORMS, "datasets")
DATA_SAMPLERS = _child("data sampler", mmengine_registry.DATA_SAMPLERS, "datasets")
HOOKS = _child("hook", mmengine_registry.HOOKS, "hooks")
METRICS = _child("metric", mmengine_registry.METRICS, "metrics")
OPTIM_WRAPPERS = _child("optim_wrapper", mmengine_registry.OPTIM_WRAPPERS, "engine")
LOOPS = _child("loop", mmengine_registry.LOOPS, "engine")

# MMEngine warns for every kind of part that a scope has no registry of, so each of the others gets an empty child.
for _name in (
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


def check_has_type(part, where: str) -> None:
    """Raise InputError unless `part`, at the place `where` of a config, is a dict that says its type."""
    if not isinstance(part, Mapping) or "type" not in part:
        raise InputError(f"{where}={part!r} says no type; write {where}=dict(type=..., ...), or drop it with None")


def build_part(parts: Registry, part: Mapping, where: str):
    """Build the part at the place `where` of a config. What its constructor finds wrong is an InputError that names it.

    A part that holds another one knows its key alone, and says ".weighting": whoever builds the outer part completes it.
    """
    check_has_type(part, where)
    try:
        return parts.build(dict(part))
    except InputError as error:
        if not str(error).startswith("."):
            raise
        raise InputError(f"{where}{error}") from error
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where} ({part['type']}): {reason or type(error).__name__}") from error
