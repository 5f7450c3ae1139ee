"""What several methods share: noise, timesteps, guidance, and what is done to captions."""

from diffdistill.methods.parts.captions import RandomConditioning
from diffdistill.methods.parts.noise import OffsetNoise, PyramidNoise
from diffdistill.methods.parts.timesteps import (
    BiasedTimesteps,
    CosMapTimesteps,
    CubicTimesteps,
    GridTimesteps,
    LogitNormalTimesteps,
    ModeTimesteps,
    UniformTimesteps,
)

__all__ = [
    "BiasedTimesteps",
    "CosMapTimesteps",
    "CubicTimesteps",
    "GridTimesteps",
    "LogitNormalTimesteps",
    "ModeTimesteps",
    "OffsetNoise",
    "PyramidNoise",
    "RandomConditioning",
    "UniformTimesteps",
]
