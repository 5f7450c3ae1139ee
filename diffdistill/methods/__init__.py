"""What one training step computes; `base.Method` says how a distiller uses one."""

from diffdistill.methods.conditioning import RandomConditioning
from diffdistill.methods.consistency import LatentConsistency
from diffdistill.methods.denoising import DenoisingKD
from diffdistill.methods.distilled_guidance import GuidanceDistillation
from diffdistill.methods.progressive import ProgressiveDistillation

__all__ = ["DenoisingKD", "GuidanceDistillation", "LatentConsistency", "ProgressiveDistillation", "RandomConditioning"]
