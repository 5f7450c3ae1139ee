"""The forward process of a diffusion model and what its denoiser is asked to predict."""

import torch
from torch import Tensor

from diffdistill.errors import InputError

PREDICTION_TYPES = ("epsilon", "v_prediction")


class NoiseSchedule:
    """Variance-preserving schedule: `x_t = alpha_t x_0 + sigma_t eps` (Ho et al., 2020, eq. 4).

    Built from a diffusers scheduler's `alphas_cumprod`, shape (T,): alpha_t = sqrt(alphas_cumprod[t]) and
    sigma_t = sqrt(1 - alphas_cumprod[t]). Timestep -1 stands for clean data. All arithmetic is done in fp32 at least.
    """

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str = "epsilon"):
        if prediction_type not in PREDICTION_TYPES:
            raise InputError(
                f"prediction_type {prediction_type!r} is not supported; expected one of {', '.join(PREDICTION_TYPES)}"
            )
        clean = torch.ones(1, dtype=torch.double)
        signal = torch.cat([alphas_cumprod.double().cpu(), clean])
        self.alphas, self.sigmas = signal.sqrt(), (1 - signal).sqrt()
        self.prediction_type = prediction_type

    @classmethod
    def from_scheduler(cls, scheduler) -> "NoiseSchedule":
        """The noise schedule of a diffusers scheduler, with the prediction type in its config."""
        return cls(scheduler.alphas_cumprod, scheduler.config.prediction_type)

    def predicting(self, prediction_type: str) -> "NoiseSchedule":
        """The same noise for a denoiser with another prediction type."""
        return NoiseSchedule(self.alphas[:-1].square(), prediction_type)

    def __len__(self) -> int:
        return len(self.alphas) - 1

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at integer `timesteps` (B,), shaped to broadcast over `like` (B, ...); 1 and 0 at -1."""
        if self.alphas.device != like.device:  # once a run: a look-up on the CPU would wait for the GPU in every step
            self.alphas, self.sigmas = self.alphas.to(like.device), self.sigmas.to(like.device)
        shape = (-1, *[1] * (like.ndim - 1))
        dtype = torch.promote_types(like.dtype, torch.float32)
        return self.alphas[timesteps].to(dtype).reshape(shape), self.sigmas[timesteps].to(dtype).reshape(shape)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy latents x_t, shape of `latents`."""
        alpha, sigma = self.coefficients(timesteps, latents)
        return alpha * latents + sigma * noise

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio (alpha_t / sigma_t)^2 at integer `timesteps` (B,), fp32, shape (B,)."""
        alpha, sigma = self.coefficients(timesteps, timesteps.float())
        return (alpha / sigma) ** 2

    def to_sample(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The x_0 that a prediction at `noisy` stands for: (z - sigma eps) / alpha, or alpha z - sigma v."""
        alpha, sigma = self.coefficients(timesteps, noisy)
        if self.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / alpha
        return alpha * noisy - sigma * prediction

    def from_sample(self, sample: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The prediction that stands for x_0 = `sample` at `noisy`; the inverse of `to_sample`."""
        alpha, sigma = self.coefficients(timesteps, noisy)
        if self.prediction_type == "epsilon":
            return (noisy - alpha * sample) / sigma
        return (alpha * noisy - sample) / sigma

    def ddim_step(self, sample: Tensor, noisy: Tensor, timesteps: Tensor, later: Tensor) -> Tensor:
        """From `noisy` at `timesteps` (B,) to the timesteps `later`, given the x_0 = `sample` that was predicted there.

        Deterministic DDIM (Song et al., 2021, eq. 12 with eta 0); at `later` = -1 that is `sample` itself.
        """
        alpha, sigma = self.coefficients(timesteps, noisy)
        alpha_later, sigma_later = self.coefficients(later, noisy)
        return alpha_later * sample + sigma_later / sigma * (noisy - alpha * sample)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict: eps, or v = alpha eps - sigma x_0 (Salimans & Ho, 2022, app. D)."""
        if self.prediction_type == "epsilon":
            return noise
        alpha, sigma = self.coefficients(timesteps, latents)
        return alpha * noise - sigma * latents
