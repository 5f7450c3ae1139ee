"""What one training step computes; `base.Method` says how a distiller uses one."""

from diffdistill.methods.conditioning import RandomConditioning
from diffdistill.methods.consistency import LatentConsistency
from diffdistill.methods.denoising import DenoisingKD
from diffdistill.methods.distilled_guidance import GuidanceDistillation
from diffdistill.methods.noising import OffsetNoise, PyramidNoise
from diffdistill.methods.progressive import ProgressiveDistillation
from diffdistill.methods.timesteps import BiasedTimesteps, CubicTimesteps, UniformTimesteps

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
