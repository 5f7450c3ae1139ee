"""What one training step computes; `base` says what a method may ask of the model that it trains."""

from diffdistill.methods.consistency import LatentConsistency
from diffdistill.methods.denoising import DenoisingKD
from diffdistill.methods.guidance import GuidanceDistillation
from diffdistill.methods.parts.captions import RandomConditioning
from diffdistill.methods.parts.noise import OffsetNoise, PyramidNoise
from diffdistill.methods.parts.timesteps import BiasedTimesteps, CubicTimesteps, UniformTimesteps
from diffdistill.methods.progressive import ProgressiveDistillation

__all__ = [
    "BiasedTimesteps",
    "CubicTimesteps",
    "DenoisingKD",
    "GuidanceDistillation",
    "LatentConsistency",
    "OffsetNoise",
    "ProgressiveDistillation",
    "PyramidNoise",
    "RandomConditioning",
    "UniformTimesteps",
]
