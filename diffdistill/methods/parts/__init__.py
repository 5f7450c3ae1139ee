"""What several methods share: noise, timesteps, guidance, and what is done to captions."""

from diffdistill.methods.parts.captions import RandomConditioning
from diffdistill.methods.parts.noise import OffsetNoise, PyramidNoise
from diffdistill.methods.parts.timesteps import BiasedTimesteps, CubicTimesteps, UniformTimesteps

__all__ = ["BiasedTimesteps", "CubicTimesteps", "OffsetNoise", "PyramidNoise", "RandomConditioning", "UniformTimesteps"]
