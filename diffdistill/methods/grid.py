"""A student of few steps that is trained at the times of these steps alone."""

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class GridDenoising(Method):
    """The student denoises pictures of the data at the times of its own steps, which say x_0 at once.

    The noisy latents are those that its sampler meets, one of `steps` times for each picture. With `AdversarialLoss` alone
    this is latent adversarial diffusion distillation (LADD: Sauer et al., 2024, arXiv:2403.12015, sec. 3), whose pictures
    are best drawn by the teacher beforehand. With `TaskLoss` alone a student of few steps would stay blurred: a mean of all
    pictures that fit. Sampled with diffusers' `LCMScheduler`, or `FlowMatchLCMScheduler`; one step, with DDIM (Euler).

    Args:
        steps: of the student; must divide T, but for flow matching.
    """

    compares = False

    def __init__(self, steps: int = 4):
        if not isinstance(steps, int) or steps < 1:
            raise InputError(f"model.method.steps={steps!r}: give a whole number of 1 or more")
        self.steps = steps

    def check(self, plan: PlannedModel) -> None:
        plan.noise_schedule.check_steps(self.steps, "model.method.steps")

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        steps, schedule = steps or self.steps, plan.noise_schedule
        scheduler = schedule.one_step_sampler(1) if steps == 1 else schedule.consistency_sampler(steps, steps)
        return dict(scheduler=scheduler, num_inference_steps=self.steps, guidance_scale=1.0)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule, noise = model.noise_schedule, torch.randn_like(latents)
        part = torch.randint(1, self.steps + 1, latents.shape[:1], device=latents.device)
        timesteps = schedule.grid(part, self.steps, latents)
        noisy = schedule.add_noise(latents, noise, timesteps)
        return model.take_step(noisy, timesteps, condition, schedule.target(latents, noise, timesteps))
