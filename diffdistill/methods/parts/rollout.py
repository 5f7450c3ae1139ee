"""What a student of few steps draws by itself, from noise, and how that is noised again."""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffdistill.methods.base import TrainedModel
from diffdistill.noise import NoiseSchedule


class Drawn(NamedTuple):
    """The x_0 = `sample` (B, C, H, W) that a student estimates at one of its times, with gradient in its turn.

    `noisy` are the latents that it saw there, at `start` (B,); `end` (B,) is the time of its next step. On the way from
    clean latents to noise these are the shares `far` and `near`.
    """

    sample: Tensor
    noisy: Tensor
    start: Tensor
    end: Tensor
    near: float
    far: float

    def detached(self) -> "Drawn":
        """The same without gradient."""
        return self._replace(sample=self.sample.detach())


class Noisier(NamedTuple):
    """Samples with noise: `noisy` (B, C, H, W) at `timesteps` (B,).

    `origin` is the x_0 that a denoiser which learns from such pairs says on average, and `weights` (B,) are the factors by
    which its squared error in epsilon is as large as that of any other.
    """

    noisy: Tensor
    timesteps: Tensor
    origin: Tensor
    weights: Tensor


def roll_out(model: TrainedModel, latents: Tensor, condition: Mapping, steps: int, deterministic: bool) -> Drawn:
    """Backward simulation (Yin et al., 2024, DMD2, sec. 4.5): some of the `steps` without gradient, and then one with it.

    It starts from noise of the shape of `latents`. Between steps x_0 is noised anew, or, where that is `deterministic`, a
    DDIM (Euler) step is taken.
    """
    schedule, noisy = model.noise_schedule, torch.randn_like(latents)
    # As many steps on all ranks, which must run a model in pieces equally often.
    number = torch.Generator().manual_seed(model.iteration)
    part = steps - int(torch.randint(steps, (), generator=number, device="cpu"))
    parts = torch.arange(steps, part - 2, -1, device=latents.device)
    *times, end = [schedule.grid(each.expand(len(latents)), steps, latents) for each in parts]
    for now, later in pairwise(times):
        sample = schedule.to_sample(model.predict_student(noisy, now, condition), noisy, now)
        if deterministic:
            noisy = schedule.ddim_step(sample, noisy, now, later)
        else:
            noisy = schedule.add_noise(sample, torch.randn_like(sample), later)
    if model.turn.student:
        prediction = model.take_step(noisy, times[-1], condition, None).prediction.float()
    else:
        prediction = model.predict_student(noisy, times[-1], condition)
    sample = schedule.to_sample(prediction, noisy, times[-1])
    return Drawn(sample, noisy, times[-1], end, (part - 1) / steps, part / steps)


def add_noise(schedule: NoiseSchedule, drawn: Drawn, timesteps: Tensor) -> Noisier:
    """The samples with noise at any `timesteps` (B,)."""
    noisy = schedule.add_noise(drawn.sample, torch.randn_like(drawn.sample), timesteps)
    return Noisier(noisy, timesteps, drawn.sample, torch.ones_like(noisy[:, 0, 0, 0]))


def add_noise_after_step(schedule: NoiseSchedule, drawn: Drawn, timesteps: Tensor) -> Noisier:
    """The states after the student's step with the noise that leads on to `timesteps` (B,), which lie within that step.

    From x_s to x_t = a x_s + b eps, with a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2 sigma_s^2 (Luo et al., 2025,
    arXiv:2503.06674, eq. 8). The score of x_t is the mean of -eps / b, so x_0 = (x_t - sigma_t^2 eps / b) / alpha_t.
    """
    state = schedule.ddim_step(drawn.sample, drawn.noisy, drawn.start, drawn.end)
    noise = torch.randn_like(state)
    (alpha_end, sigma_end), (alpha, sigma) = (schedule.coefficients(each, state) for each in (drawn.end, timesteps))
    ratio = alpha / alpha_end
    deviation = (sigma**2 - (ratio * sigma_end) ** 2).sqrt()
    noisy = ratio * state + deviation * noise
    origin = (noisy - sigma**2 / deviation * noise) / alpha
    return Noisier(noisy, timesteps, origin, ((deviation / sigma) ** 2).flatten())
