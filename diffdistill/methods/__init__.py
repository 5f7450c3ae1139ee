"""What one training step computes; `base` says what a method may ask of the model that it trains."""

from diffdistill.methods.consistency import LatentConsistency
from diffdistill.methods.denoising import DenoisingKD
from diffdistill.methods.guidance import GuidanceDistillation
from diffdistill.methods.matching import DistributionMatching
from diffdistill.methods.parts.captions import RandomConditioning
from diffdistill.methods.parts.noise import OffsetNoise, PyramidNoise
from diffdistill.methods.parts.timesteps import (
    BiasedTimesteps,
    CosMapTimesteps,
    CubicTimesteps,
    LogitNormalTimesteps,
    ModeTimesteps,
    UniformTimesteps,
)
from diffdistill.methods.progressive import ProgressiveDistillation
from diffdistill.methods.recovery import BlockRecovery

__all__ = [
    "BiasedTimesteps",
    "BlockRecovery",
    "CosMapTimesteps",
    "CubicTimesteps",
    "DenoisingKD",
    "DistributionMatching",
    "GuidanceDistillation",
    "LatentConsistency",
    "LogitNormalTimesteps",
    "ModeTimesteps",
    "OffsetNoise",
    "ProgressiveDistillation",
    "PyramidNoise",
    "RandomConditioning",
    "UniformTimesteps",
]
