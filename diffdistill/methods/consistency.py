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


def phased(sample: Tensor, noisy: Tensor, timesteps: Tensor, edges: Tensor, schedule: NoiseSchedule) -> Tensor:
    """f(z, t) = alpha_s x + sigma_s / sigma_t (z - alpha_t x) of a phase that ends at s, `edges` (B,); z itself at t = s.

    Given the predicted x_0 = `sample` (B, C, H, W), that is the DDIM (Euler) step to the phase's edge.
    """
    there = (timesteps == edges).view(-1, 1, 1, 1)
    return torch.where(there, noisy, schedule.ddim_step(sample, noisy, timesteps, edges))


@MODELS.register_module()
class LatentConsistency(Method):
    """Consistency distillation of a guided latent diffusion model (Luo et al., 2023, arXiv:2310.04378, alg. 1).

    At a time t of a grid of `grid` the teacher takes one guided DDIM step to the next grid time s; the student at (z, t) is
    to say what the target network says at (z_s, s). In the Step, `prediction` and `target` are both consistency functions
    f, which estimate x_0, so weightings by SNR and `OutputKD` have no meaning here. Sampled with diffusers' `LCMScheduler`,
    or `FlowMatchLCMScheduler`.

    With `phases` (Wang et al., 2024, arXiv:2405.18407) the grid is split in as many equal parts, and f estimates the latents
    at the lower edge of the phase that t is in: one DDIM step gets there, so that sampling is trailing DDIM, without new
    noise. Fewer phases stage by stage are Hyper-SD's (Ren et al., 2024, arXiv:2404.13686, alg. 1).

    Args:
        guidance_scale: the range [low, high] of scales, in diffusers' convention (w + 1 of the paper).
        grid: T/k of the paper, the number of grid times: a skip of k = 20 of 1000 timesteps.
        target: "average" is the moving average of the student that `TargetEMAHook` keeps; "student" the student itself
            without gradient (Song & Dhariwal, 2023, sec. 3.2), as for an adapter (LCM-LoRA, arXiv:2311.05556).
        steps: of the sampler, in validation; by default 4, or one for each phase, which it must divide.
        phases: must divide `grid`. 1 is latent consistency: its path ends at t = 0, and its sampler adds noise again.
    """

    needs_teacher = True
    compares = False

    def __init__(
        self,
        guidance_scale: float | list[float],
        grid: int = 50,
        target: str = "average",
        steps: int | None = None,
        phases: int = 1,
    ):
        if target not in ("average", "student"):
            raise InputError(f"model.method.target={target!r} is unknown; use 'average' or 'student'")
        for name, value in (("grid", grid), ("phases", phases)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"model.method.{name}={value!r}: give a whole number of 1 or more")
        if grid % phases:
            raise InputError(
                f"model.method.grid={grid} does not split into {phases} phases (model.method.phases); use a multiple of"
                f" {phases}, such as {5 * phases}"
            )
        self.guidance, self.grid, self.target, self.phases = Guidance(guidance_scale), grid, target, phases
        self.steps = (phases if phases > 1 else 4) if steps is None else steps
        self.check_steps(self.steps, "model.method.steps")
        self.needs_average = target == "average"
        self.targets_pictures = phases == 1  # that of a phase is at its edge

    def check_steps(self, steps: int, key: str) -> None:
        """Raise InputError, naming `key`, for steps that the sampler does not take."""
        if self.phases == 1 and not 1 <= steps <= self.grid:
            raise InputError(f"{key}={steps}: the sampler takes 1 to {self.grid} (model.method.grid) steps")
        if self.phases > 1 and (steps < 1 or self.phases % steps):
            known = ", ".join(str(n) for n in range(1, self.phases + 1) if self.phases % n == 0)
            raise InputError(
                f"{key}={steps}: each step of a student of {self.phases} phases (model.method.phases) ends at an edge;"
                f" use one of {known}"
            )

    def check(self, plan: PlannedModel) -> None:
        plan.noise_schedule.check_steps(self.grid, "model.method.grid")
        # An adapter, which has neither an embedding nor an average of itself, learns an average over the scales.
        if plan.embeds_guidance or self.needs_average:
            self.guidance.check(plan)

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        schedule, scale = plan.noise_schedule, self.guidance.usual if plan.embeds_guidance else 1.0
        if self.phases == 1:
            scheduler = schedule.consistency_sampler(steps or self.steps, self.grid)
        else:
            self.check_steps(steps or self.steps, "--steps")
            scheduler = schedule.one_step_sampler(steps or self.steps)
        return dict(scheduler=scheduler, num_inference_steps=self.steps, guidance_scale=scale)

    def edges(self, part: Tensor) -> Tensor:
        """The grid's part (B,) at the lower edge of the phase in which `part` (B,), 1 to `grid`, is; 0 is clean."""
        width = self.grid // self.phases
        return (part - 1) // width * width

    def function(self, sample: Tensor, noisy: Tensor, timesteps: Tensor, edges: Tensor, schedule: NoiseSchedule) -> Tensor:
        """The consistency function f at `noisy` (B, C, H, W) and `timesteps` (B,), given the predicted x_0 = `sample`."""
        if self.phases == 1:
            return consistency(sample, noisy, timesteps, schedule)
        return phased(sample, noisy, timesteps, edges, schedule)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule = model.noise_schedule
        part = torch.randint(1, self.grid + 1, latents.shape[:1], device=latents.device)
        timesteps, later, edges = (schedule.grid(each, self.grid, latents) for each in (part, part - 1, self.edges(part)))
        asked = later.clamp(min=0)  # at clean latents, -1, there is nothing to ask
        if self.phases == 1:
            later = asked  # where the path of LCM ends, as in `LCMScheduler`
        noisy = schedule.add_noise(latents, torch.randn_like(latents), timesteps)
        scales = self.guidance.draw(latents)
        sample, features = guided_sample(model, noisy, timesteps, condition, scales)
        nearer = schedule.ddim_step(sample, noisy, timesteps, later)
        condition = model.tell_guidance(condition, scales)
        prediction = model.predict_student(nearer, asked, condition, averaged=self.needs_average)
        target = schedule.to_sample(prediction, nearer, asked)
        target = self.function(target, nearer, later, edges, schedule)
        step = model.take_step(noisy, timesteps, condition, target, teacher_features=features)
        said = schedule.to_sample(step.prediction.float(), noisy, timesteps)
        reached = self.function(said, noisy, timesteps, edges, schedule)
        return dataclasses.replace(step, prediction=reached, sample=reached if self.phases == 1 else said)
