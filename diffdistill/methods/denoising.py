"""Denoising, with or without a teacher: the student predicts the noise (or velocity) at a random timestep."""

from torch import Tensor

from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.noise import Noising
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step


@MODELS.register_module()
class DenoisingKD(Method):
    """Student and teacher see the same noisy latents at the same random timestep (Kim et al., 2023, sec. 3.2).

    Args:
        conditioning: what is done to the conditioning first, e.g. `dict(type="RandomConditioning")`; by default nothing.
        timesteps, noise, input_perturbation: of `Noising`; by default uniform timesteps and white noise.
    """

    def __init__(
        self,
        conditioning: dict | None = None,
        timesteps: dict | None = None,
        noise: dict | None = None,
        input_perturbation: float = 0.0,
    ):
        self.conditioning = conditioning and build_part(MODELS, conditioning, ".conditioning")
        self.noising = Noising(timesteps, noise, input_perturbation)
        self.smallest_batch = self.conditioning.smallest_batch if self.conditioning else 1

    def check(self, plan: PlannedModel) -> None:
        self.noising.check(plan.noise_schedule)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule = model.noise_schedule
        noisy, noise, timesteps = self.noising(schedule, latents)
        if self.conditioning:
            condition = self.conditioning(model, condition, timesteps)
        return model.take_compared_step(noisy, timesteps, condition, target=schedule.target(latents, noise, timesteps))
