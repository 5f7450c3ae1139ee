"""Progressive distillation: one step of the student does what several DDIM steps of its teacher do."""

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.methods.base import Features, Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.guidance import Guidance, guided_sample, without_captions
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class ProgressiveDistillation(Method):
    """Halves the number of sampling steps (Salimans & Ho, 2022, alg. 2), on a grid of `steps` equal steps to clean data.

    With `steps` N and T training timesteps the grid is that of diffusers' trailing DDIM, t_i = i T/N - 1 for i = 1 ... N,
    and clean data at -1; under flow matching the sigmas i/N, shifted as the pipeline shifts them. From a noisy latent z at t
    the teacher takes `substeps` DDIM (Euler) steps to z_s at the next grid time s; the target is the x that takes the
    student there in one: x* = (z_s - r z) / (alpha_s - r alpha_t), r = sigma_s / sigma_t. The target and the student's
    prediction are compared in the student's prediction type; `TruncatedSNR` and `SNRPlusOne` are the paper's weightings
    of the error in x (sec. 4). For the next halving the student becomes the teacher: a run in stages.

    Args:
        steps: of the student; must divide T, but for flow matching.
        substeps: DDIM steps of the teacher for one of the student. 1 teaches a smaller student on the grid of its teacher.
        guidance_scale: under which the teacher steps; a number is folded into the student, which is then sampled without
            guidance; of a range [low, high] the student is told by its `guidance_embedding`. None: the teacher's conditional
            prediction, e.g. because guidance is folded in already.
    """

    needs_teacher = True
    compares = False

    def __init__(self, steps: int, substeps: int = 2, guidance_scale: float | list[float] | None = None):
        for name, value in (("steps", steps), ("substeps", substeps)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"model.method.{name}={value!r}: give a whole number of 1 or more")
        self.steps, self.substeps = steps, substeps
        self.guidance = None if guidance_scale is None else Guidance(guidance_scale)

    def check(self, plan: PlannedModel) -> None:
        length = len(plan.noise_schedule)
        plan.noise_schedule.check_steps(self.steps, "model.method.steps")
        if self.substeps > length // self.steps:
            raise InputError(
                f"model.method.substeps={self.substeps}: one of {self.steps} steps spans {length // self.steps} timesteps"
            )
        if self.guidance:
            self.guidance.check(plan)
        elif plan.embeds_guidance:
            raise InputError(
                "model.method.guidance_scale is missing: the student embeds the scale; give the range that its teacher knows"
            )

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        scale = self.guidance.to_sample_with if self.guidance else 1.0
        scheduler = plan.noise_schedule.one_step_sampler(steps or self.steps)
        return dict(scheduler=scheduler, num_inference_steps=self.steps, guidance_scale=scale)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule = model.noise_schedule
        part = torch.randint(1, self.steps + 1, latents.shape[:1], device=latents.device)
        timesteps = schedule.grid(part, self.steps, latents)
        noisy = schedule.add_noise(latents, torch.randn_like(latents), timesteps)
        scales = self.guidance.draw(latents) if self.guidance else None
        sample, features = self.target(model, noisy, part, condition, scales)
        target = schedule.from_sample(sample, noisy, timesteps)
        if self.guidance:
            condition = model.tell_guidance(condition, scales)
        return model.take_step(noisy, timesteps, condition, target, teacher_features=features)

    @torch.no_grad()
    def target(
        self,
        model: TrainedModel,
        noisy: Tensor,
        part: Tensor,
        condition: dict,
        scales: Tensor | None,
    ) -> tuple[Tensor, Features]:
        """x* at `noisy` (B, C, H, W), in fp32 at least, and the teacher's features at its first step.

        `part` (B,) says where each row is on the grid: 1 before the last step, `steps` before the first.
        """
        schedule, features = model.noise_schedule, {}
        timesteps = schedule.grid(part, self.steps, noisy)
        z, now = noisy, timesteps
        empty = without_captions(model, condition, scales)  # once, not at every substep
        for substep in range(1, self.substeps + 1):
            later = schedule.grid(part * self.substeps - substep, self.steps * self.substeps, noisy)
            sample, seen = guided_sample(model, z, now, condition, scales, empty)
            z, now, features = schedule.ddim_step(sample, z, now, later), later, features or seen
        alpha, sigma = schedule.coefficients(timesteps, noisy)
        alpha_later, sigma_later = schedule.coefficients(later, noisy)
        ratio = sigma_later / sigma
        return (z - ratio * noisy) / (alpha_later - ratio * alpha), features
