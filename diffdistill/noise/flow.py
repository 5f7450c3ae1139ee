"""Flow matching: straight paths from data to noise, of SD3, FLUX, SANA and Qwen-Image."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.noise.base import NoiseSchedule


@dataclass(frozen=True)
class ResolutionShift:
    """A shift that grows with the resolution (Esser et al., 2024, sec. 5.3.2), as FLUX and Qwen-Image have it.

    mu is linear in the number of tokens of the picture, `base` at `base_tokens` and `largest` at `most_tokens`; the shift
    is exp(mu), or mu itself where it is `linear`. A token is `patch` x `patch` latents.
    """

    base: float
    largest: float
    base_tokens: int
    most_tokens: int
    patch: int
    linear: bool = False

    @classmethod
    def from_config(cls, config: Mapping, patch: int) -> "ResolutionShift":
        """The shift in the config of a diffusers scheduler."""
        return cls(
            config.get("base_shift") or 0.5,
            config.get("max_shift") or 1.15,
            config.get("base_image_seq_len") or 256,
            config.get("max_image_seq_len") or 4096,
            patch,
            config.get("time_shift_type") == "linear",
        )

    def __call__(self, height: int, width: int) -> float:
        """The shift of latents of that size."""
        tokens = (height // self.patch) * (width // self.patch)
        slope = (self.largest - self.base) / (self.most_tokens - self.base_tokens)
        mu = self.base + slope * (tokens - self.base_tokens)
        return mu if self.linear else math.exp(mu)


class FlowMatching(NoiseSchedule):
    """x_t = (1 - s) x_0 + s eps, predicting the velocity eps - x_0 (Lipman et al., 2023; Liu et al., 2023).

    The timestep is T s, continuous, from 0, clean data, to T, pure noise. What draws timesteps, evenly or by a density, does
    so before the `shift` towards noise of Esser et al. (2024, arXiv:2403.03206, eq. 23), s = shift u / (1 + (shift - 1) u).

    Args:
        shift: a number; or what gives it for the height and width of the latents.
        sigmas_given: whether the pipeline hands its scheduler evenly spaced sigmas, which end at one step from clean.
    """

    kind = "flow-matching"
    prediction_types = ("flow_prediction",)
    clean = 0

    def __init__(
        self,
        shift: float | Callable[[int, int], float] = 1.0,
        prediction_type: str = "flow_prediction",
        length: int = 1000,
        sigmas_given: bool = False,
    ):
        super().__init__(prediction_type, length)
        self.shift, self.sigmas_given = shift, sigmas_given

    def predicting(self, prediction_type: str) -> "FlowMatching":
        return FlowMatching(self.shift, prediction_type, self.length, self.sigmas_given)

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(like.dtype, torch.float32)
        sigma = (timesteps.to(dtype) / len(self)).reshape(-1, *[1] * (like.ndim - 1))
        return 1 - sigma, sigma

    def shift_at(self, latents: Tensor) -> float:
        """The shift for latents (B, C, H, W) of that size."""
        return self.shift(*latents.shape[-2:]) if callable(self.shift) else self.shift

    def at(self, share: Tensor, latents: Tensor, shift: float | None = None) -> Tensor:
        shift = shift or self.shift_at(latents)
        return len(self) * shift * share / (1 + (shift - 1) * share)

    def spread(self, cells: Tensor, latents: Tensor) -> Tensor:
        return self.at((cells + torch.rand(cells.shape, device=cells.device)) / len(self), latents)

    def grid(self, part: Tensor, whole: int, latents: Tensor) -> Tensor:
        return self.at(part / whole, latents)

    def one_step_sampler(self, steps: int) -> dict:
        if self.sigmas_given:
            return dict(type="FlowMatchEulerDiscreteScheduler", shift_terminal=None)
        # diffusers' Euler scheduler would take its last step from a sigma of nearly 0; the first order of DPM-Solver++ is
        # Euler's step as well, and on the right grid.
        return dict(type="DPMSolverMultistepScheduler", solver_order=1)

    def consistency_sampler(self, steps: int, grid: int) -> dict:
        last = (
            None if self.sigmas_given or steps == 1 else self.at(torch.tensor(1 / steps), torch.empty(0)).item() / len(self)
        )
        return dict(type="FlowMatchLCMScheduler", shift_terminal=last)

    def renoising_sampler(self, steps: int) -> dict:
        scheduler = dict(type="FlowMatchLCMScheduler", shift_terminal=None)
        # Its own sigmas are not evenly spaced before they are shifted.
        even = {} if self.sigmas_given else dict(sigmas=[part / steps for part in range(steps, 0, -1)])
        return dict(scheduler=scheduler, **even)

    def scheduler_changes(self, scheduler_class: type, key: str) -> dict:
        """The shift; and a solver that can sample flows beside other noise, such as DPM-Solver++, is told to do so."""
        shift = {} if callable(self.shift) else dict(shift=self.shift)
        if scheduler_class.__name__.startswith("FlowMatch"):
            return shift
        if "use_flow_sigmas" not in inspect.signature(scheduler_class).parameters:
            raise InputError(
                f"{key}={scheduler_class.__name__} does not sample flow matching; use FlowMatchEulerDiscreteScheduler, or a"
                " solver that can, such as DPMSolverMultistepScheduler"
            )
        shift = {f"flow_{name}": value for name, value in shift.items()}
        return dict(use_flow_sigmas=True, prediction_type=self.prediction_type, **shift)

    def error_ratio(self, snr: Tensor) -> Tensor:
        """1 / s^2, as x_0 = z - s v and s = 1 / (1 + sqrt(SNR))."""
        return (1 + snr.sqrt()) ** 2

    def to_sample(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """z - s v."""
        return noisy - self.coefficients(timesteps, noisy)[1] * prediction

    def from_sample(self, sample: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        return (noisy - sample) / self.coefficients(timesteps, noisy)[1]

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise - latents
