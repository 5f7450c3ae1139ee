"""Latent consistency distillation: the student maps every point of the teacher's path to where the path ends."""

import dataclasses

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.guidance import Guidance, guided_sample
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS
from diffdistill.step import Step

SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0  # LCMScheduler's own, and what the noise schedule gives it


def boundary(timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out (Luo et al., 2023, sec. 4.1) at `timesteps` (B,), broadcast over latents: 1 and 0 at t = 0."""
    scaled = TIMESTEP_SCALING * timesteps.double().view(-1, 1, 1, 1)
    square = SIGMA_DATA**2
    return square / (scaled**2 + square), scaled / (scaled**2 + square).sqrt()


def consistency(sample: Tensor, noisy: Tensor, timesteps: Tensor, schedule: NoiseSchedule) -> Tensor:
    """f(z, t) = c_skip z + c_out x, given the predicted x_0 = `sample` (B, C, H, W); z itself at t = 0.

    Under flow matching x is z at t = 0 already, so that f is x.
    """
    if schedule.clean == 0:
        return sample
    skip, out = (each.to(sample.dtype) for each in boundary(timesteps))
    return skip * noisy + out * sample


@MODELS.register_module()
class LatentConsistency(Method):
    """Consistency distillation of a guided latent diffusion model (Luo et al., 2023, arXiv:2310.04378, alg. 1).

    At a time t of a grid of `grid` the teacher takes one guided DDIM step to the next grid time s; the student at (z, t) is
    to say what the target network says at (z_s, s). In the Step, `prediction` and `target` are both consistency functions
    f, which estimate x_0, so weightings by SNR and `OutputKD` have no meaning here. Sampled with diffusers' `LCMScheduler`,
    or `FlowMatchLCMScheduler`.

    Args:
        guidance_scale: the range [low, high] of scales, in diffusers' convention (w + 1 of the paper).
        grid: T/k of the paper, the number of grid times: a skip of k = 20 of 1000 timesteps.
        target: "average" is the moving average of the student that `TargetEMAHook` keeps; "student" the student itself
            without gradient (Song & Dhariwal, 2023, sec. 3.2), as for an adapter (LCM-LoRA, arXiv:2311.05556).
        steps: of the sampler, in validation.
    """

    needs_teacher = True
    compares = False

    def __init__(self, guidance_scale: float | list[float], grid: int = 50, target: str = "average", steps: int = 4):
        if target not in ("average", "student"):
            raise InputError(f"model.method.target={target!r} is unknown; use 'average' or 'student'")
        if not isinstance(grid, int) or grid < 1:
            raise InputError(f"model.method.grid={grid!r}: give a whole number of 1 or more")
        if not 1 <= steps <= grid:
            raise InputError(f"model.method.steps={steps}: the sampler takes 1 to {grid} (model.method.grid) steps")
        self.guidance, self.grid, self.target = Guidance(guidance_scale), grid, target
        self.steps = steps
        self.needs_average = target == "average"

    def check(self, plan: PlannedModel) -> None:
        plan.noise_schedule.check_steps(self.grid, "model.method.grid")
        # An adapter, which has neither an embedding nor an average of itself, learns an average over the scales.
        if plan.embeds_guidance or self.needs_average:
            self.guidance.check(plan)

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        scheduler = plan.noise_schedule.consistency_sampler(steps or self.steps, self.grid)
        scale = self.guidance.usual if plan.embeds_guidance else 1.0
        return dict(scheduler=scheduler, num_inference_steps=self.steps, guidance_scale=scale)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule = model.noise_schedule
        part = torch.randint(1, self.grid + 1, latents.shape[:1], device=latents.device)
        timesteps, later = schedule.grid(part, self.grid, latents), schedule.grid(part - 1, self.grid, latents).clamp(min=0)
        noisy = schedule.add_noise(latents, torch.randn_like(latents), timesteps)
        scales = self.guidance.draw(latents)
        sample, features = guided_sample(model, noisy, timesteps, condition, scales)
        nearer = schedule.ddim_step(sample, noisy, timesteps, later)
        condition = model.tell_guidance(condition, scales)
        prediction = model.predict_student(nearer, later, condition, averaged=self.needs_average)
        target = schedule.to_sample(prediction, nearer, later)
        target = consistency(target, nearer, later, schedule)
        step = model.take_step(noisy, timesteps, condition, target, teacher_features=features)
        said = schedule.to_sample(step.prediction.float(), noisy, timesteps)
        said = consistency(said, noisy, timesteps, schedule)
        return dataclasses.replace(step, prediction=said, sample=said)
