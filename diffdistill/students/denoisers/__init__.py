"""What must be known about each denoiser class of diffusers: a file for UNets, and one for transformers."""

from diffdistill.students.denoisers import transformers, unet
from diffdistill.students.denoisers.rules import DenoiserRules, register, rules_of

__all__ = ["DenoiserRules", "register", "rules_of", "transformers", "unet"]
