"""What the training loop of MMEngine needs on today's torch: mixed precision on any device."""

from diffdistill.engine.precision import MixedPrecision

__all__ = ["MixedPrecision"]
