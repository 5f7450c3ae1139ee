"""What noise a batch of latents gets. All is drawn from torch's global generator, on the latents' device."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffdistill.errors import InputError, check_range
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS, build_part


@MODELS.register_module()
class OffsetNoise:
    """White noise plus `offset` times one normal number for each channel of each sample (Guttenberg, 2023, "Diffusion with
    Offset Noise"), so that the student also learns to change the mean brightness."""

    def __init__(self, offset: float = 0.1):
        self.offset = check_range("OffsetNoise: offset", offset, above=0)

    def __call__(self, latents: Tensor) -> Tensor:
        noise = torch.randn_like(latents)
        return noise + self.offset * torch.randn_like(latents[:, :, :1, :1])


@MODELS.register_module()
class PyramidNoise:
    """White noise plus ever coarser noise, scaled back to unit deviation over the batch (Whitaker, 2023, "Multi-Resolution
    Noise for Diffusion Model Training").

    Level i is white noise at 1 / r_i^i of the size of level i - 1, with r_i uniform in [2, 4), enlarged bilinearly and
    weighed by discount^i; so level 0 is white noise once more. Where a side is down to 1, no coarser level follows. (In
    kohya's sd-scripts, which cite the same, level i is at 1 / r_i^i of the full size.)
    """

    def __init__(self, discount: float = 0.9, levels: int = 10):
        self.discount = check_range("PyramidNoise: discount", discount, above=0, up_to=1)
        if not isinstance(levels, int) or levels < 1:
            raise InputError(f"PyramidNoise: levels={levels!r} must be an integer, at least 1")
        self.levels = levels

    def __call__(self, latents: Tensor) -> Tensor:
        noise = torch.randn_like(latents)
        full = size = latents.shape[2:]
        for level in range(self.levels):
            ratio = (2 + 2 * torch.rand(()).item()) ** level  # drawn on the CPU: a GPU's number would have to be waited for
            size = [max(1, int(side / ratio)) for side in size]
            coarse = torch.randn(*latents.shape[:2], *size, device=latents.device, dtype=latents.dtype)
            noise = noise + self.discount**level * F.interpolate(coarse, size=full, mode="bilinear")
            if min(size) == 1:
                break
        return noise / noise.std()


class Noised(NamedTuple):
    """A batch with noise added.

    `noisy` and `noise` have the shape of the latents (B, C, H, W), `timesteps` is (B,); `noise` is what to predict.
    """

    noisy: Tensor
    noise: Tensor
    timesteps: Tensor


class Noising:
    """How a method turns latents into the noisy latents of a step; its options are those of the method's config.

    Args:
        timesteps: how they are drawn, e.g. `dict(type="CubicTimesteps")`; by default `UniformTimesteps`.
        noise: its kind, e.g. `dict(type="OffsetNoise", offset=0.05)`; by default white.
        input_perturbation: gamma of Ning et al. (2023, arXiv:2301.11706, alg. 1): the latents get noise + gamma xi, with xi
            normal too, and the target does not know of xi. Theirs is 0.1.
    """

    def __init__(self, timesteps: dict | None = None, noise: dict | None = None, input_perturbation: float = 0.0):
        self.timesteps = build_part(MODELS, timesteps or dict(type="UniformTimesteps"), ".timesteps")
        self.noise = build_part(MODELS, noise, ".noise") if noise else torch.randn_like
        self.perturbation = input_perturbation
        if input_perturbation != 0:
            check_range("input_perturbation", input_perturbation, above=0)

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise InputError where an option does not fit `schedule`."""
        self.timesteps.check(schedule)

    def __call__(self, schedule: NoiseSchedule, latents: Tensor) -> Noised:
        noise = self.noise(latents)
        timesteps = self.timesteps(schedule, latents)
        added = noise + self.perturbation * torch.randn_like(noise) if self.perturbation else noise
        return Noised(schedule.add_noise(latents, added, timesteps), noise, timesteps)
