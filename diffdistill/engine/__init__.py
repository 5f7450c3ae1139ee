"""What the training loop of MMEngine needs on today's torch: mixed precision on any device, and updates in backward."""

from diffdistill.engine.precision import MixedPrecision
from diffdistill.engine.release import OptimizerInBackward

__all__ = ["MixedPrecision", "OptimizerInBackward"]
