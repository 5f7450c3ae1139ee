"""What one training step computes. A method is called with the distiller, latents (B, C, H, W) and the conditioning of the
denoiser (a dict of its keyword arguments), and returns a Step."""

from diffdistill.methods.conditioning import RandomConditioning
from diffdistill.methods.denoising import DenoisingKD

__all__ = ["DenoisingKD", "RandomConditioning"]
