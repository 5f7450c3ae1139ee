"""The forward process of a diffusion model and what its denoiser is asked to predict."""

from diffdistill.noise.base import NoiseSchedule
from diffdistill.noise.flow import FlowMatching, ResolutionShift
from diffdistill.noise.variance_preserving import VariancePreserving

__all__ = ["FlowMatching", "NoiseSchedule", "ResolutionShift", "VariancePreserving"]
