"""Variance-preserving noise, of Stable Diffusion 1.x, 2.x, XL and PixArt."""

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.noise.base import NoiseSchedule


class VariancePreserving(NoiseSchedule):
    """alpha^2 + sigma^2 = 1 at integer timesteps (Ho et al., 2020, eq. 4); -1 stands for clean data.

    Built from a diffusers scheduler's `alphas_cumprod`, shape (T,): alpha_t = sqrt(alphas_cumprod[t]) and
    sigma_t = sqrt(1 - alphas_cumprod[t]). Predicted is eps, or v = alpha eps - sigma x_0 (Salimans & Ho, 2022, app. D).
    """

    kind = "variance-preserving"
    prediction_types = ("epsilon", "v_prediction")
    clean = -1

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str = "epsilon"):
        super().__init__(prediction_type, len(alphas_cumprod))
        signal = torch.cat([alphas_cumprod.double().cpu(), torch.ones(1, dtype=torch.double)])
        self.alphas, self.sigmas = signal.sqrt(), (1 - signal).sqrt()

    @classmethod
    def from_scheduler(cls, scheduler) -> "VariancePreserving":
        """The noise schedule of a diffusers scheduler, with the prediction type in its config."""
        return cls(scheduler.alphas_cumprod, scheduler.config.prediction_type)

    def predicting(self, prediction_type: str) -> "VariancePreserving":
        return VariancePreserving(self.alphas[:-1].square(), prediction_type)

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.alphas.device != like.device:  # once a run: a look-up on the CPU would wait for the GPU in every step
            self.alphas, self.sigmas = self.alphas.to(like.device), self.sigmas.to(like.device)
        shape = (-1, *[1] * (like.ndim - 1))
        dtype = torch.promote_types(like.dtype, torch.float32)
        return self.alphas[timesteps].to(dtype).reshape(shape), self.sigmas[timesteps].to(dtype).reshape(shape)

    def spread(self, cells: Tensor, latents: Tensor) -> Tensor:
        return cells

    def at(self, share: Tensor, latents: Tensor, shift: float | None = None) -> Tensor:
        return (share * len(self)).long().clamp(max=len(self) - 1)

    def check_steps(self, steps: int, key: str) -> None:
        if len(self) % steps:
            divisors = ", ".join(str(n) for n in range(1, 65) if len(self) % n == 0)
            raise InputError(f"{key}={steps} does not divide {len(self)} timesteps; use one of {divisors}")

    def grid(self, part: Tensor, whole: int, latents: Tensor) -> Tensor:
        """That of diffusers' trailing DDIM: part T / whole - 1, rounded up where T does not divide."""
        return -(-len(self) * part // whole) - 1

    def one_step_sampler(self, steps: int) -> dict:
        return dict(type="DDIMScheduler", timestep_spacing="trailing", set_alpha_to_one=True, clip_sample=False)

    def consistency_sampler(self, steps: int, grid: int) -> dict:
        return dict(type="LCMScheduler", original_inference_steps=grid, timestep_scaling=10.0, clip_sample=False)

    def renoising_sampler(self, steps: int) -> dict:
        return dict(scheduler=self.consistency_sampler(steps, steps))

    def scheduler_changes(self, scheduler_class: type, key: str) -> dict:
        if scheduler_class.__name__.startswith("FlowMatch"):
            raise InputError(
                f"{key}={scheduler_class.__name__} samples flow matching, and this pipeline predicts"
                f" {self.prediction_type}; use one such as DDIMScheduler"
            )
        return dict(prediction_type=self.prediction_type)

    def error_ratio(self, snr: Tensor) -> Tensor:
        """SNR for eps, as x_0 = (z - sigma eps) / alpha; SNR + 1 = 1 / sigma^2 for v, as x_0 = alpha z - sigma v."""
        return snr + 1 if self.prediction_type == "v_prediction" else snr

    def to_sample(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """(z - sigma eps) / alpha, or alpha z - sigma v."""
        alpha, sigma = self.coefficients(timesteps, noisy)
        if self.prediction_type == "epsilon":
            return (noisy - sigma * prediction) / alpha
        return alpha * noisy - sigma * prediction

    def from_sample(self, sample: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        alpha, sigma = self.coefficients(timesteps, noisy)
        if self.prediction_type == "epsilon":
            return (noisy - alpha * sample) / sigma
        return (alpha * noisy - sample) / sigma

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        if self.prediction_type == "epsilon":
            return noise
        alpha, sigma = self.coefficients(timesteps, latents)
        return alpha * noise - sigma * latents
