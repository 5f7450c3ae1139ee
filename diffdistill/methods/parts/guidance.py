"""Classifier-free guidance that a student learns: how its scale is drawn, and what the teacher says under it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.methods.base import Features, PlannedModel, TrainedModel


class Guidance:
    """A guidance scale for every sample, in diffusers' convention: uncond + scale (cond - uncond), so w + 1 of the papers.

    Args:
        scale: a fixed scale, which a student can learn without being told; or a range (low, high), of which each sample gets
            a scale of its own and the student is told by its guidance embedding.
    """

    def __init__(self, scale: float | Sequence[float]):
        self.low, self.high = (scale, scale) if isinstance(scale, (int, float)) else tuple(scale)
        if not 1 <= self.low <= self.high:
            raise InputError(f"model.method.guidance_scale={scale!r}: give a number of 1 or more, or a range [low, high]")

    @property
    def is_range(self) -> bool:
        """Whether each sample has a scale of its own, of which the student must be told."""
        return self.low < self.high

    @property
    def usual(self) -> float:
        """The scale to validate with: the middle of the range."""
        return (self.low + self.high) / 2

    @property
    def to_sample_with(self) -> float:
        """The scale for a student that was told a range; 1, which is no guidance, where a single one is folded into it."""
        return self.usual if self.is_range else 1.0

    def draw(self, like: Tensor) -> Tensor:
        """Scales (B,) for a batch of latents `like`, uniform in the range."""
        return self.low + (self.high - self.low) * torch.rand(len(like), device=like.device)

    def check(self, plan: PlannedModel) -> None:
        """Raise InputError unless the student is told what it has to be told, and nothing else."""
        if plan.embeds_guidance and not self.is_range:
            without = " (without model.student.guidance_embedding, where it is set, a single scale would do)"
            raise InputError(
                f"model.method.guidance_scale={self.low}: the student embeds the scale, and would be sampled with others;"
                f" give the range [low, high] that it will know{without if plan.can_embed_guidance else ''}"
            )
        if self.is_range and not plan.embeds_guidance:
            able = "set model.student.guidance_embedding=256, or give a single scale"
            unable = "its denoiser has no place for an embedding of it, so give a single scale"
            raise InputError(
                f"model.method.guidance_scale=[{self.low}, {self.high}]: a student of a range must be told the scale;"
                f" {able if plan.can_embed_guidance else unable}"
            )


def without_captions(model: TrainedModel, condition: dict, scales: Tensor | None) -> dict | None:
    """The conditioning of the same pictures with empty captions; None where guidance by `scales` (B,) needs none."""
    if scales is None or model.teacher_embeds_guidance:
        return None
    return model.replace_captions(condition, [""] * len(scales))


def guided_sample(
    model: TrainedModel,
    noisy: Tensor,
    timesteps: Tensor,
    condition: dict,
    scales: Tensor | None,
    empty: dict | None = None,
) -> tuple[Tensor, Features]:
    """The teacher's x_0 under guidance, fp32, shape of the latents, and its features without it.

    x = x_u + scale (x_c - x_u) (Ho & Salimans, 2022, eq. 6). A teacher that embeds the scale is told it, and asked once.
    `scales` None asks for the conditional x_0 alone. `empty` is what `without_captions` returns, for those who ask often.
    """
    schedule, embeds = model.teacher_schedule, model.teacher_embeds_guidance
    if embeds and scales is not None:
        condition = model.tell_guidance(condition, scales, teacher=True)
    prediction, features = model.predict_teacher(noisy, timesteps, condition)
    prediction = promoted(prediction)
    if scales is not None and not embeds:
        empty = empty or without_captions(model, condition, scales)
        unconditional = promoted(model.predict_teacher(noisy, timesteps, empty)[0])
        prediction = unconditional + scales.to(prediction).view(-1, 1, 1, 1) * (prediction - unconditional)
    return schedule.to_sample(prediction, noisy, timesteps), features


def promoted(prediction: Tensor) -> Tensor:
    """`prediction` in fp32, or as it is where its precision is higher."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))
