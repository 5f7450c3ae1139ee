"""How a step is scored. A loss maps a Step to a scalar tensor in fp32; its weight and its name in the log come from the config."""

from diffdistill.losses.distillation import FeatureKD, OutputKD, TaskLoss

__all__ = ["FeatureKD", "OutputKD", "TaskLoss"]
