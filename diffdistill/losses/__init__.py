"""How a step is scored: a loss maps a Step to a scalar in fp32; its weight and its name in the log come from the config."""

from diffdistill.losses.distillation import FeatureKD, OutputKD, TaskLoss

__all__ = ["FeatureKD", "OutputKD", "TaskLoss"]
