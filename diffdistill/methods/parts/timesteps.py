"""Which timesteps a batch is noised to.

A part is called with the noise schedule and the latents (B, C, H, W), and draws timesteps (B,) from torch's global
generator; `check` raises InputError where it does not fit that schedule. Under flow matching what is drawn is a
share of the way from clean latents to noise, before the schedule's shift.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffdistill.errors import InputError, check_range
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS


def check_span(where: str, start: int, end: int | None, length: int | None = None) -> None:
    """Raise InputError unless start <= t < end holds for some timestep, of a schedule with `length` timesteps if given."""
    whole = isinstance(start, int) and isinstance(end, int | None)
    if not whole or start < 0 or (end is not None and end <= start):
        raise InputError(f"{where}: start={start!r}, end={end!r} must be integers with 0 <= start < end")
    if length is not None and max(start + 1, end or 0) > length:
        raise InputError(
            f"{where}: start={start}, end={end} leaves the schedule, which has {length} timesteps: 0 to {length}"
        )


@MODELS.register_module()
class UniformTimesteps:
    """Every timestep with `start` <= t < `end` alike (Ho et al., 2020, alg. 1); by default the whole schedule."""

    def __init__(self, start: int = 0, end: int | None = None):
        check_span("UniformTimesteps", start, end)
        self.start, self.end = start, end

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise InputError unless `start` and `end` enclose a timestep of `schedule`."""
        check_span("UniformTimesteps", self.start, self.end, len(schedule))

    def __call__(self, schedule: NoiseSchedule, latents: Tensor) -> Tensor:
        self.check(schedule)
        cells = torch.randint(self.start, self.end or len(schedule), latents.shape[:1], device=latents.device)
        return schedule.spread(cells, latents)


@MODELS.register_module()
class BiasedTimesteps:
    """Some timesteps `multiplier` times as often as the others (diffusers' SDXL training scripts, `--timestep_bias_*`).

    Args:
        favour: "later" (the noisiest), "earlier", or (start, end): those with start <= t < end.
        portion: of the schedule that "later" or "earlier" means; by default a quarter.
        multiplier: below 1, they come less often.
    """

    def __init__(self, favour: str | Sequence[int] = "later", portion: float | None = None, multiplier: float = 2.0):
        named = favour in ("later", "earlier")
        if not named and (isinstance(favour, str) or not isinstance(favour, Sequence) or len(favour) != 2):
            raise InputError(f"BiasedTimesteps: favour={favour!r} is unknown; use 'later', 'earlier' or (start, end)")
        if not named:
            check_span("BiasedTimesteps: favour", *favour)
            if portion is not None:
                raise InputError(f"BiasedTimesteps: portion={portion} has no meaning with favour={favour}; leave one out")
        self.favour = favour
        self.portion = 0.25 if portion is None else check_range("BiasedTimesteps: portion", portion, above=0, up_to=1)
        self.multiplier = check_range("BiasedTimesteps: multiplier", multiplier, above=0)

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise InputError unless the range (start, end), if one is favoured, fits `schedule`."""
        if not isinstance(self.favour, str):
            check_span("BiasedTimesteps: favour", *self.favour, len(schedule))

    def span(self, length: int) -> tuple[int, int]:
        """The first of the favoured timesteps and the one after the last."""
        if not isinstance(self.favour, str):
            return self.favour[0], self.favour[1]
        portion = max(1, int(self.portion * length))
        return (0, portion) if self.favour == "earlier" else (length - portion, length)

    def __call__(self, schedule: NoiseSchedule, latents: Tensor) -> Tensor:
        self.check(schedule)
        start, end = self.span(len(schedule))
        weights = torch.ones(len(schedule), device=latents.device)
        weights[start:end] = self.multiplier
        return schedule.spread(torch.multinomial(weights, len(latents), replacement=True), latents)


@MODELS.register_module()
class GridTimesteps:
    """The timesteps at which a sampler of few steps asks its student, all alike, and no other.

    Args:
        steps: the number of equal steps to clean data, as `ProgressiveDistillation` counts them; or the timesteps themselves
            of a student of another sampler, e.g. [999, 759, 499, 259] of diffusers' `LCMScheduler` in four steps.
    """

    def __init__(self, steps: int | Sequence[int]):
        if steps < 1 if isinstance(steps, int) else not steps:
            raise InputError(f"GridTimesteps: steps={steps!r}: give a whole number of 1 or more, or the timesteps")
        self.steps = steps if isinstance(steps, int) else list(steps)

    def __len__(self) -> int:
        return self.steps if isinstance(self.steps, int) else len(self.steps)

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise InputError unless the grid is one of `schedule`."""
        if isinstance(self.steps, int):
            schedule.check_steps(self.steps, "GridTimesteps: steps")
        else:
            first, last = schedule.clean + 1, schedule.clean + len(schedule)
            for time in self.steps:
                if not first <= time <= last:
                    raise InputError(
                        f"GridTimesteps: steps={self.steps}: {time} is no timestep of the schedule; give some of {first} to"
                        f" {last}"
                    )

    def times(self, schedule: NoiseSchedule, latents: Tensor) -> Tensor:
        """The timesteps of the grid (N,), the noisiest last, for latents (B, C, H, W) of that size."""
        if isinstance(self.steps, int):
            return schedule.grid(torch.arange(1, self.steps + 1, device=latents.device), self.steps, latents)
        return torch.tensor(sorted(self.steps), device=latents.device)

    def __call__(self, schedule: NoiseSchedule, latents: Tensor) -> Tensor:
        times = self.times(schedule, latents)
        return times[torch.randint(len(times), latents.shape[:1], device=latents.device)]


class Density:
    """A density of the share u in [0, 1] of the way from clean latents to noise.

    Args:
        shift: under flow matching, instead of the schedule's own; 1 is none.
    """

    def __init__(self, shift: float | None = None):
        self.shift = None if shift is None else check_range(f"{type(self).__name__}: shift", shift, above=0)

    def check(self, schedule: NoiseSchedule) -> None:
        """Do nothing: every schedule fits."""

    def share(self, uniform: Tensor) -> Tensor:
        """The shares (B,) that uniform numbers (B,) in [0, 1) stand for: the inverse of the distribution function."""
        raise NotImplementedError

    def __call__(self, schedule: NoiseSchedule, latents: Tensor) -> Tensor:
        uniform = torch.rand(len(latents), device=latents.device)
        return schedule.at(self.share(uniform), latents, self.shift)


@MODELS.register_module()
class CubicTimesteps(Density):
    """1 - u^3 with uniform u in [0, 1), so noisy timesteps come most (Mou et al., 2023, T2I-Adapter, sec. 3.4)."""

    def share(self, uniform: Tensor) -> Tensor:
        return 1 - uniform**3


@MODELS.register_module()
class LogitNormalTimesteps(Density):
    """The middle of the way comes most: logit(share) is normal (Esser et al., 2024, arXiv:2403.03206, eq. 19).

    Args:
        mean: above 0, noisy timesteps come more.
        std: of the normal distribution.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, shift: float | None = None):
        super().__init__(shift)
        self.mean, self.std = mean, check_range("LogitNormalTimesteps: std", std, above=0)

    def share(self, uniform: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(uniform.double())).to(uniform.dtype)


@MODELS.register_module()
class ModeTimesteps(Density):
    """1 - u - scale (cos^2(pi u / 2) - 1 + u) with uniform u (Esser et al., 2024, arXiv:2403.03206, eq. 20).

    Args:
        scale: from -1, the ends come most, by way of 0, uniform, to 2 / (pi - 2), the middle comes most.
    """

    def __init__(self, scale: float = 1.29, shift: float | None = None):
        super().__init__(shift)
        if not -1 <= scale <= 2 / (math.pi - 2):
            raise InputError(f"ModeTimesteps: scale={scale!r} must be from -1 to {2 / (math.pi - 2):.3f}")
        self.scale = scale

    def share(self, uniform: Tensor) -> Tensor:
        return 1 - uniform - self.scale * (torch.cos(math.pi / 2 * uniform) ** 2 - 1 + uniform)


@MODELS.register_module()
class CosMapTimesteps(Density):
    """1 - 1 / (tan(pi u / 2) + 1) with uniform u: of density 2 / (pi - 2 pi t + 2 pi t^2) (Esser et al., 2024, eq. 21)."""

    def share(self, uniform: Tensor) -> Tensor:
        return 1 - 1 / (torch.tan(math.pi / 2 * uniform) + 1)
