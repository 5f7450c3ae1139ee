"""How each kind of diffusers pipeline is checked, loaded and encoded."""

from diffdistill.families.sd import StableDiffusion
from diffdistill.families.sdxl import StableDiffusionXL

__all__ = ["StableDiffusion", "StableDiffusionXL"]
