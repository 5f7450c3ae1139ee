"""Guidance distillation: one forward pass of the student says what two of the teacher say."""

import torch
from torch import Tensor

from diffdistill.methods.base import Method, PlannedModel, TrainedModel
from diffdistill.methods.parts.guidance import Guidance, guided_sample
from diffdistill.registry import MODELS
from diffdistill.step import Step


@MODELS.register_module()
class GuidanceDistillation(Method):
    """Stage one of Meng et al. (2023, alg. 1): the student learns x^w = (1 + w) x_c - w x_u of the teacher at random times.

    The scale reaches the student by its `guidance_embedding`, which diffusers' pipelines fill at sampling; they then run it
    once a step. Progressive distillation goes on from there.

    Args:
        guidance_scale: the range [low, high] of scales, in diffusers' convention (w + 1 of the paper); or a single one, of
            which the student need not be told.
    """

    needs_teacher = True
    compares = False

    def __init__(self, guidance_scale: float | list[float]):
        self.guidance = Guidance(guidance_scale)

    def check(self, plan: PlannedModel) -> None:
        self.guidance.check(plan)

    def sampling(self, plan: PlannedModel, steps: int | None = None) -> dict:
        return dict(guidance_scale=self.guidance.to_sample_with)

    def __call__(self, model: TrainedModel, latents: Tensor, condition: dict) -> Step:
        schedule = model.noise_schedule
        timesteps = schedule.spread(torch.randint(len(schedule), latents.shape[:1], device=latents.device), latents)
        noisy = schedule.add_noise(latents, torch.randn_like(latents), timesteps)
        scales = self.guidance.draw(latents)
        sample, features = guided_sample(model, noisy, timesteps, condition, scales)
        target = schedule.from_sample(sample, noisy, timesteps)
        condition = model.tell_guidance(condition, scales)
        return model.take_step(noisy, timesteps, condition, target, teacher_features=features)
