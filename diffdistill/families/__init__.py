"""How each kind of diffusers pipeline is checked, loaded and encoded."""

from diffdistill.families.sd import StableDiffusion
from diffdistill.families.sd3 import StableDiffusion3
from diffdistill.families.sdxl import StableDiffusionXL

__all__ = ["StableDiffusion", "StableDiffusion3", "StableDiffusionXL"]
