"""Building the model of a config."""

from collections.abc import Mapping

from torch import nn

from diffdistill.models.plan import Plan
from diffdistill.registry import MODELS


def build_model(config: Mapping, plan: Plan | None) -> nn.Module:
    """The model of a config's `model`, from its plan where there is one; a model that is not ours has none."""
    if plan is None:
        return MODELS.build(config)
    return MODELS.get(config["type"])(plan=plan, data_preprocessor=config.get("data_preprocessor"))
