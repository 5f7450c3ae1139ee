"""Distribution matching: the student's pictures move to where the teacher finds them likelier than a fake score does."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.guidance import Guidance, guided_sample
from diffdistill.methods.parts.rollout import Drawn, Noisier, add_noise, add_noise_after_step, roll_out
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step

FAKE = "fake_score"
SMALLEST = 1e-8  # that the gradient is divided by
MARGIN = 0.02  # of the way from clean latents to noise, at either end, where no scores are compared (DMD, app. F)


@MODELS.register_module()
class DistributionMatching(Method):
    """Matches the distribution of what the student draws with the teacher's (DMD2: Yin et al., 2024, arXiv:2405.14867).

    From pure noise the student takes some of its `steps` by itself, without gradient, and then one with it, which estimates
    x_0 (backward simulation, sec. 4.5). Noised again to a random time, the teacher's estimate x_T of it and that of a fake
    score, x_F, which learns to denoise what the student draws, say where to move it (DMD, arXiv:2311.18828, eqs. 7 and 8):

        gradient = (x_F - x_T) / mean|x_0 - x_T|

    In the Step `prediction` is x_0 and `target` is x_0 - gradient, so that `TaskLoss(weight=0.5)` is the paper's loss; a
    weighting counts the time at which the scores were compared. No picture is needed: captions are enough.

    Args:
        steps: of the student; must divide T, but for flow matching.
        match: "samples" compares x_0, renoised to any time, and the student renoises x_0 between its steps, as in DMD2.
            "trajectory" takes deterministic steps, and compares the state after a step, noised further within that step
            (TDM: Luo et al., 2025, arXiv:2503.06674, eq. 8).
        guidance_scale: of the teacher, which the student folds in; of a range [low, high] it is told by its
            `guidance_embedding`. None: the teacher's conditional prediction.
        fake_score: the config of an adapter (peft), for a student that is an adapter of its whole teacher: then one base in
            memory has three roles. By default the fake score is a full copy of the teacher, whatever the student is.
        ratio: updates of the fake score for one of the student; DMD2's is 5, TDM's 1.
        warmup: updates of the fake score alone at the beginning, where the student draws other pictures than the teacher,
            whose score the fake score starts as.
        normalize: divide the gradient by the mean of |x_0 - x_T| over a sample. TDM takes `PseudoHuber` instead.
        timesteps: at which samples are compared; by default uniform from 2 % to 98 % of the way to noise.
        fake_loss: how the fake score is trained, e.g. `dict(type="TaskLoss", weighting=dict(type="MinSNR"))`.
    """

    needs_teacher = True
    needs_pictures = False
    targets_pictures = False
    compares = False

    def __init__(
        self,
        steps: int = 1,
        match: str = "samples",
        guidance_scale: float | list[float] | None = None,
        fake_score: dict | None = None,
        ratio: int = 1,
        warmup: int = 0,
        normalize: bool = True,
        timesteps: dict | None = None,
        fake_loss: dict | None = None,
    ):
        for name, value in (("steps", steps), ("ratio", ratio)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"model.method.{name}={value!r}: give a whole number of 1 or more")
        if not isinstance(warmup, int) or warmup < 0:
            raise InputError(f"model.method.warmup={warmup!r}: give a whole number of updates, 0 or more")
        if match not in ("samples", "trajectory"):
            raise InputError(f"model.method.match={match!r} is unknown; use 'samples' or 'trajectory'")
        if match == "trajectory" and timesteps:
            raise InputError("model.method.timesteps: a trajectory is compared within each step; leave one of them out")
        self.steps, self.ratio, self.warmup = steps, ratio, warmup
        self.normalize, self.adapter = normalize, fake_score
        self.follows = match == "trajectory"
        self.guidance = None if guidance_scale is None else Guidance(guidance_scale)
        self.timesteps = build_part(MODELS, timesteps, ".timesteps") if timesteps else None
        self.fake_loss = build_part(MODELS, fake_loss or dict(type="TaskLoss"), ".fake_loss")

    def check(self, plan: PlannedModel) -> None:
        plan.noise_schedule.check_steps(self.steps, "model.method.steps")
        if self.timesteps:
            self.timesteps.check(plan.noise_schedule)
        if self.guidance is None:
            return
        self.guidance.check(plan)
        if self.guidance.low > 1 and plan.sampling.get("guidance_scale", self.guidance.low) <= 1:
            raise InputError(
                f"model.method.guidance_scale={self.guidance.usual:g}: the teacher is sampled without guidance"
                f" (model.sampling.guidance_scale={plan.sampling['guidance_scale']:g}), since it has folded it in; leave"
                " model.method.guidance_scale out"
            )

    def critics(self, plan: PlannedModel, teacher: nn.Module) -> Mapping[str, nn.Module | Mapping]:
        return {FAKE: self.adapter or copy.deepcopy(teacher)}

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        """Deterministic steps to the next time, or a consistency sampler, which renoises x_0 to it."""
        schedule, count = plan.noise_schedule, steps or self.steps
        scale = self.guidance.to_sample_with if self.guidance else 1.0
        straight = dict(scheduler=schedule.one_step_sampler(count)) if self.follows or count == 1 else None
        options = straight or schedule.renoising_sampler(count)
        return dict(options, num_inference_steps=self.steps, guidance_scale=scale)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        scales = self.guidance.draw(latents) if self.guidance else None
        told = condition if scales is None else model.tell_guidance(condition, scales)
        drawn = roll_out(model, latents, told, self.steps, deterministic=self.follows)
        step = Step(drawn.noisy, drawn.start, None, None, model.noise_schedule.of_sample(), sample=drawn.sample)
        drawn = drawn.detached()
        if model.turn.student:
            compared = self.renoise(model.teacher_schedule, drawn)
            step.noisy, step.timesteps, step.prediction = compared.noisy, compared.timesteps, step.sample
            step.target = drawn.sample - self.gradient(model, drawn.sample, compared, condition, scales)
        step.critic_losses[FAKE] = self.score_fake(model, self.renoise(model.teacher_schedule, drawn), condition)
        return step

    def renoise(self, schedule: NoiseSchedule, drawn: Drawn) -> Noisier:
        """What the student has drawn, with noise to random times."""
        if self.timesteps:
            return add_noise(schedule, drawn, self.timesteps(schedule, drawn.sample))
        low, high = (drawn.near, drawn.far) if self.follows else (0.0, 1.0)
        low, high = max(low, MARGIN), min(high, 1 - MARGIN)
        share = low + (high - low) * torch.rand(len(drawn.sample), device=drawn.sample.device)
        timesteps = schedule.at(share, drawn.sample)
        return (add_noise_after_step if self.follows else add_noise)(schedule, drawn, timesteps)

    @torch.no_grad()
    def gradient(
        self, model: TrainedModel, sample: Tensor, compared: Noisier, condition: dict, scales: Tensor | None
    ) -> Tensor:
        """x_F - x_T where both are `compared`, normalised, of the shape of the student's x_0 = `sample`."""
        noisy, timesteps = compared.noisy, compared.timesteps
        real, _ = guided_sample(model, noisy, timesteps, condition, scales)
        fake = model.teacher_schedule.to_sample(model.predict_critic(FAKE, noisy, timesteps, condition), noisy, timesteps)
        if not self.normalize:
            return fake - real
        return (fake - real) / (sample - real).abs().mean((1, 2, 3), keepdim=True).clamp(min=SMALLEST)

    def score_fake(self, model: TrainedModel, seen: Noisier, condition: dict) -> Tensor:
        """The denoising loss of the fake score on what the student draws (DMD, eq. 6)."""
        schedule, noisy, timesteps = model.teacher_schedule, seen.noisy, seen.timesteps
        prediction = model.predict_critic(FAKE, noisy, timesteps, condition)
        target = schedule.from_sample(seen.origin, noisy, timesteps)
        weights = seen.weights if self.follows else None
        return self.fake_loss(Step(noisy, timesteps, prediction, target, schedule, sample_weights=weights))
