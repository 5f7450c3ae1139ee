"""What the training loop of MMEngine needs on today's torch: mixed precision on any device, and sharding."""

from diffdistill.engine.precision import MixedPrecision
from diffdistill.engine.sharding import FullyShard

__all__ = ["FullyShard", "MixedPrecision"]
