"""What MMEngine's training loop lacks on today's torch: precision on any device, updates in backward, sharding."""

from diffdistill.engine.networks import PerNetwork
from diffdistill.engine.precision import MixedPrecision
from diffdistill.engine.release import OptimizerInBackward
from diffdistill.engine.sharding import FullyShard

__all__ = ["FullyShard", "MixedPrecision", "OptimizerInBackward", "PerNetwork"]
