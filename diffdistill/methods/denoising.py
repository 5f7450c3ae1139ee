"""Denoising, with or without a teacher: the student predicts the noise (or velocity) at a random timestep."""

import torch
from torch import Tensor

from diffdistill.methods.base import Method
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class DenoisingKD(Method):
    """Student and teacher see the same noisy latents at the same uniform random timestep (Kim et al., 2023, sec. 3.2).

    Args:
        conditioning: what is done to the conditioning first, e.g. `dict(type="RandomConditioning")`; by default nothing.
    """

    def __init__(self, conditioning: dict | None = None):
        self.conditioning = conditioning and MODELS.build(conditioning)

    def __call__(self, distiller, latents: Tensor, condition: dict) -> Step:
        schedule = distiller.noise_schedule
        noise = torch.randn_like(latents)
        timesteps = torch.randint(len(schedule), latents.shape[:1], device=latents.device)
        noisy = schedule.add_noise(latents, noise, timesteps)
        if self.conditioning:
            condition = self.conditioning(distiller, condition, timesteps)
        return distiller.run(noisy, timesteps, condition, target=schedule.target(latents, noise, timesteps))
