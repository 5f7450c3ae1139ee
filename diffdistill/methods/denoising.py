"""Denoising, with or without a teacher: the student predicts the noise (or velocity) at a random timestep."""

from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.guidance import Guidance
from diffdistill.methods.parts.noise import Noising
from diffdistill.methods.parts.timesteps import GridTimesteps
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step


@MODELS.register_module()
class DenoisingKD(Method):
    """Student and teacher see the same noisy latents at the same random timestep (Kim et al., 2023, sec. 3.2).

    Args:
        conditioning: what is done to the conditioning first, e.g. `dict(type="RandomConditioning")`; by default nothing.
        timesteps, noise, input_perturbation: of `Noising`; by default uniform timesteps and white noise.
        guidance_scale: a number or a range [low, high], of which student and teacher are told, where both embed it (FLUX.1
            dev); by default the family's own.
        steps: for a student of so few steps, whose teacher has more: the timesteps are those of `GridTimesteps(steps)`, and
            the student is sampled from one straight to the next, without guidance. What it is to answer there, losses say:
            alone, the mean of all pictures would be the best answer; LADD is this with an `AdversarialLoss`.
    """

    def __init__(
        self,
        conditioning: dict | None = None,
        timesteps: dict | None = None,
        noise: dict | None = None,
        input_perturbation: float = 0.0,
        guidance_scale: float | list[float] | None = None,
        steps: int | None = None,
    ):
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise InputError(f"model.method.steps={steps!r}: give a whole number of 1 or more")
        if steps and timesteps:
            raise InputError(f"model.method.steps={steps}: they are the timesteps already; leave model.method.timesteps out")
        self.steps = steps
        self.conditioning = conditioning and build_part(MODELS, conditioning, ".conditioning")
        grid = dict(type="GridTimesteps", steps=steps) if steps else timesteps
        self.noising = Noising(grid, noise, input_perturbation)
        if not steps and isinstance(self.noising.timesteps, GridTimesteps):
            self.sampler_times = self.noising.timesteps
        self.told = None if guidance_scale is None else Guidance(guidance_scale)
        self.smallest_batch = self.conditioning.smallest_batch if self.conditioning else 1
        self.captions = getattr(self.conditioning, "captions", None) or ()

    def check(self, plan: PlannedModel) -> None:
        if self.steps:
            plan.noise_schedule.check_steps(self.steps, "model.method.steps")
        self.noising.check(plan.noise_schedule)
        if self.told and not plan.embeds_guidance:
            raise InputError(
                f"model.method.guidance_scale={self.told.usual:g}: the student has no embedding of the scale, so it cannot"
                " be told; leave it out, or use GuidanceDistillation"
            )

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        if not self.steps:
            return {}
        options = dict(scheduler=plan.noise_schedule.one_step_sampler(steps or self.steps), num_inference_steps=self.steps)
        if self.told or not plan.embeds_guidance:
            options["guidance_scale"] = self.told.usual if self.told else 1.0
        return options

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule = model.noise_schedule
        noisy, noise, timesteps = self.noising(schedule, latents)
        if self.told:
            condition = model.tell_guidance(condition, self.told.draw(latents))
        if self.conditioning:
            condition = self.conditioning(model, condition, timesteps)
        return model.take_compared_step(noisy, timesteps, condition, target=schedule.target(latents, noise, timesteps))
