"""What both kinds of noise have in common, and what is asked of each."""

import copy
from typing import ClassVar

import torch
from torch import Tensor

from diffdistill.errors import InputError


class NoiseSchedule:
    """Noisy latents are `x_t = alpha_t x_0 + sigma_t eps`; a timestep is what the denoiser is told.

    Two kinds differ in alpha and sigma and in which timesteps there are: `VariancePreserving` and `FlowMatching`. All else
    follows from these. All arithmetic is done in fp32 at least.
    """

    kind: str  # in words
    prediction_types: ClassVar[tuple[str, ...]]
    clean: int  # the timestep at which x_t is x_0

    def __init__(self, prediction_type: str, length: int):
        if prediction_type not in self.prediction_types:
            raise InputError(
                f"prediction_type {prediction_type!r} is not supported by a {self.kind} noise schedule;"
                f" expected one of {', '.join(self.prediction_types)}"
            )
        self.prediction_type, self.length = prediction_type, length

    def __len__(self) -> int:
        return self.length

    def predicting(self, prediction_type: str) -> "NoiseSchedule":
        """The same noise for a denoiser with another prediction type."""
        raise NotImplementedError

    def of_sample(self) -> "NoiseSchedule":
        """The same noise for a prediction that is x_0 itself."""
        same = copy.copy(self)
        same.prediction_type, same.error_ratio = "sample", torch.ones_like
        same.to_sample = same.from_sample = lambda sample, noisy, timesteps: sample
        same.target = lambda latents, noise, timesteps: latents
        return same

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at `timesteps` (B,), shaped to broadcast over `like` (B, ...); 1 and 0 at `clean`."""
        raise NotImplementedError

    def spread(self, cells: Tensor, latents: Tensor) -> Tensor:
        """Random timesteps (B,) in the given ones (B,) of the T equal parts of the way from clean latents, 0, to noise."""
        raise NotImplementedError

    def at(self, share: Tensor, latents: Tensor, shift: float | None = None) -> Tensor:
        """The timesteps (B,) at which shares in [0, 1) of the way from clean `latents` to noise lie behind.

        `shift` takes the place of the schedule's own, where there is one.
        """
        raise NotImplementedError

    def check_steps(self, steps: int, key: str) -> None:
        """Raise InputError, naming `key`, if no sampler takes `steps` equal steps."""

    def grid(self, part: Tensor, whole: int, latents: Tensor) -> Tensor:
        """The timesteps (B,) at `part` (B,), 0 to `whole`, of `whole` equal steps from clean latents to noise."""
        raise NotImplementedError

    def one_step_sampler(self, steps: int) -> dict:
        """A diffusers scheduler whose `steps` lie on `grid` and go straight to the next: type, and changes to its config."""
        raise NotImplementedError

    def consistency_sampler(self, steps: int, grid: int) -> dict:
        """A diffusers scheduler that renoises the x_0 that was predicted: type, and changes to its config."""
        raise NotImplementedError

    def renoising_sampler(self, steps: int) -> dict:
        """How a pipeline takes `steps` on `grid` and noises x_0 anew between them: `scheduler`, and more of its call."""
        raise NotImplementedError

    def scheduler_changes(self, scheduler_class: type, key: str) -> dict:
        """What a diffusers scheduler of that class must be told of this noise, as changes to its config.

        Raises InputError, naming `key`, for a class that does not sample noise of this kind.
        """
        raise NotImplementedError

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy latents x_t, shape of `latents`."""
        alpha, sigma = self.coefficients(timesteps, latents)
        return alpha * latents + sigma * noise

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio (alpha_t / sigma_t)^2 at `timesteps` (B,), fp32, shape (B,)."""
        alpha, sigma = self.coefficients(timesteps, timesteps.float())
        return (alpha / sigma) ** 2

    def error_ratio(self, snr: Tensor) -> Tensor:
        """The squared error of the prediction over that of the x_0 it stands for, at signal-to-noise ratios (B,)."""
        raise NotImplementedError

    def to_sample(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The x_0 that a prediction at `noisy` stands for."""
        raise NotImplementedError

    def from_sample(self, sample: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The prediction that stands for x_0 = `sample` at `noisy`; the inverse of `to_sample`."""
        raise NotImplementedError

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict."""
        raise NotImplementedError

    def ddim_step(self, sample: Tensor, noisy: Tensor, timesteps: Tensor, later: Tensor) -> Tensor:
        """From `noisy` at `timesteps` (B,) to the timesteps `later`, given the x_0 = `sample` that was predicted there.

        Deterministic DDIM (Song et al., 2021, eq. 12 with eta 0); at `later` = `clean` that is `sample` itself. Under flow
        matching it is Euler's step.
        """
        alpha, sigma = self.coefficients(timesteps, noisy)
        alpha_later, sigma_later = self.coefficients(later, noisy)
        return alpha_later * sample + sigma_later / sigma * (noisy - alpha * sample)
