"""Distribution matching: the student's pictures move to where the teacher finds them likelier than a fake score does."""

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.guidance import Guidance, guided_sample
from diffdistill.methods.parts.timesteps import UniformTimesteps
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step

FAKE = "fake_score"


@MODELS.register_module()
class DistributionMatching(Method):
    """Matches the distribution of the student's pictures with the teacher's (DMD2: Yin et al., 2024, arXiv:2405.14867).

    From pure noise the student takes some of its `steps` by itself, without gradient, and one more with it, which estimates
    x_0. Renoised to a random time t, the teacher's estimate x_T of it and that of a fake score, x_F, which is trained to
    denoise the student's pictures, say where to move it:

        gradient = (x_F - x_T) / mean|x_0 - x_T|     (eq. 3, and DMD, arXiv:2311.18828, eqs. 7 and 8)

    In the Step `prediction` is x_0 and `target` is x_0 - gradient, so that `TaskLoss(weight=0.5)` is the papers' loss. No
    picture is needed: a batch gives captions, and latents of the right shape.

    Args:
        steps: of the student; must divide T, but for flow matching.
        guidance_scale: of the teacher, which the student folds in; a range needs `model.student.guidance_embedding`. None:
            the teacher's conditional prediction.
        fake_score: the config of an adapter (peft) of the one base that is student and teacher, which needs a student with
            an adapter and all layers; by default a full copy of the teacher.
        ratio: updates of the fake score for one of the student. The paper's is 5.
        normalize: divide the gradient by the mean of |x_0 - x_T| over a sample.
        timesteps: at which scores are compared; by default uniform from 2 % to 98 % of the schedule.
        fake_loss: how the fake score is trained, e.g. `dict(type="TaskLoss", weighting=dict(type="MinSNR"))`.
    """

    needs_teacher = True
    compares = False

    def __init__(
        self,
        steps: int = 1,
        guidance_scale: float | list[float] | None = None,
        fake_score: dict | None = None,
        ratio: int = 1,
        normalize: bool = True,
        timesteps: dict | None = None,
        fake_loss: dict | None = None,
    ):
        for name, value in (("steps", steps), ("ratio", ratio)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"model.method.{name}={value!r}: give a whole number of 1 or more")
        self.steps, self.ratio, self.normalize, self.adapter = steps, ratio, normalize, fake_score
        self.guidance = None if guidance_scale is None else Guidance(guidance_scale)
        self.timesteps = build_part(MODELS, timesteps, ".timesteps") if timesteps else None
        self.fake_loss = build_part(MODELS, fake_loss or dict(type="TaskLoss"), ".fake_loss")

    def check(self, plan: PlannedModel) -> None:
        plan.noise_schedule.check_steps(self.steps, "model.method.steps")
        if self.timesteps:
            self.timesteps.check(len(plan.noise_schedule))
        if self.guidance:
            self.guidance.check(plan)

    def critics(self, plan: PlannedModel, teacher: nn.Module) -> Mapping[str, nn.Module | Mapping]:
        return {FAKE: self.adapter or copy.deepcopy(teacher)}

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        scale = self.guidance.to_sample_with if self.guidance else 1.0
        steps, schedule = steps or self.steps, plan.noise_schedule
        scheduler = schedule.one_step_sampler(1) if steps == 1 else schedule.consistency_sampler(steps, steps)
        return dict(scheduler=scheduler, num_inference_steps=self.steps, guidance_scale=scale)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        scales = self.guidance.draw(latents) if self.guidance else None
        told = model.tell_guidance(condition, scales) if self.guidance else condition
        noisy, timesteps = self.roll_out(model, latents, told)
        schedule = model.noise_schedule
        if model.turn.student:
            step = model.take_step(noisy, timesteps, told, None)
            step.prediction = step.sample = schedule.to_sample(step.prediction.float(), noisy, timesteps)
            step.target = step.sample.detach() - self.gradient(model, step.sample.detach(), condition, scales)
        else:
            prediction = model.predict_student(noisy, timesteps, told)
            sample = schedule.to_sample(prediction, noisy, timesteps)
            step = Step(noisy, timesteps, None, None, schedule, sample=sample)
        step.critic_losses[FAKE] = self.train_fake(model, step.sample.detach(), condition)
        return step

    @torch.no_grad()
    def roll_out(self, model: TrainedModel, latents: Tensor, condition: dict) -> tuple[Tensor, Tensor]:
        """Backward simulation (sec. 4.5): noisy latents at one of the student's times (B,), by its own steps from noise."""
        schedule, noisy = model.noise_schedule, torch.randn_like(latents)
        # All ranks take as many steps, which they must where the model is in pieces.
        draw = torch.Generator().manual_seed(model.iteration)
        before = int(torch.randint(self.steps, (), generator=draw, device="cpu"))
        whole = torch.ones(len(latents), dtype=torch.long, device=latents.device)
        times = [schedule.grid(part * whole, self.steps, latents) for part in range(self.steps, self.steps - before - 1, -1)]
        for now, later in pairwise(times):
            sample = schedule.to_sample(model.predict_student(noisy, now, condition), noisy, now)
            noisy = schedule.add_noise(sample, torch.randn_like(sample), later)
        return noisy, times[-1]

    def draw(self, schedule, latents: Tensor) -> Tensor:
        """The times (B,) at which scores are compared, or the fake one is trained."""
        if self.timesteps:
            return self.timesteps(schedule, latents)
        margin = len(schedule) // 50
        return UniformTimesteps(margin, len(schedule) - margin)(schedule, latents)

    @torch.no_grad()
    def gradient(self, model: TrainedModel, sample: Tensor, condition: dict, scales: Tensor | None) -> Tensor:
        """Where to move away from: (x_F - x_T), normalised, at the student's x_0 = `sample` (B, C, H, W)."""
        schedule = model.teacher_schedule
        timesteps = self.draw(schedule, sample)
        noisy = schedule.add_noise(sample, torch.randn_like(sample), timesteps)
        real, _ = guided_sample(model, noisy, timesteps, condition, scales)
        fake = schedule.to_sample(model.predict_critic(FAKE, noisy, timesteps, condition), noisy, timesteps)
        gradient = fake - real
        if self.normalize:
            gradient = gradient / (sample - real).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-8)
        return gradient

    def train_fake(self, model: TrainedModel, sample: Tensor, condition: dict) -> Tensor:
        """The denoising loss of the fake score on the student's pictures (eq. 4)."""
        schedule, noise = model.teacher_schedule, torch.randn_like(sample)
        timesteps = self.draw(schedule, sample)
        noisy = schedule.add_noise(sample, noise, timesteps)
        prediction = model.predict_critic(FAKE, noisy, timesteps, condition)
        return self.fake_loss(Step(noisy, timesteps, prediction, schedule.target(sample, noise, timesteps), schedule))
