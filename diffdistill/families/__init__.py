"""How each kind of diffusers pipeline is checked, loaded and encoded."""

from diffdistill.families.flux import Flux
from diffdistill.families.pixart import PixArtSigma
from diffdistill.families.qwen import QwenImage
from diffdistill.families.sana import Sana
from diffdistill.families.sd import StableDiffusion
from diffdistill.families.sd3 import StableDiffusion3
from diffdistill.families.sdxl import StableDiffusionXL

__all__ = [
    "Flux",
    "PixArtSigma",
    "QwenImage",
    "Sana",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
]
