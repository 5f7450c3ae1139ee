"""What MMEngine trains: a model around a pipeline, in two kinds, planned before a weight is loaded."""

from diffdistill.models.distiller import Distiller
from diffdistill.models.finetuner import FineTuner

__all__ = ["Distiller", "FineTuner"]
