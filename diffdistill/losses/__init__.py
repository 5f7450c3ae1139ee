"""How a step is scored: a loss maps a Step to a scalar in fp32; its weight and its name in the log come from the config."""

from diffdistill.losses.adversarial import AdversarialLoss
from diffdistill.losses.distance import PseudoHuber
from diffdistill.losses.distillation import FeatureKD, OutputKD, PriorKD
from diffdistill.losses.heads import ResidualHead, StridedHead
from diffdistill.losses.task import TaskLoss
from diffdistill.losses.weighting import DebiasedEstimation, MinSNR, SNRPlusOne, SoftMinSNR, TruncatedSNR

__all__ = [
    "AdversarialLoss",
    "DebiasedEstimation",
    "FeatureKD",
    "MinSNR",
    "OutputKD",
    "PriorKD",
    "PseudoHuber",
    "ResidualHead",
    "SNRPlusOne",
    "SoftMinSNR",
    "StridedHead",
    "TaskLoss",
    "TruncatedSNR",
]
