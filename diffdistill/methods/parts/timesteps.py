"""Which timesteps a batch is noised to.

A part is called with the length of the schedule, a count and a device, and draws integer timesteps (count,) from torch's
global generator; `check` raises InputError where it does not fit a schedule of that length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffdistill.errors import InputError, check_range
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

    def check(self, length: int) -> None:
        """Raise InputError unless `start` and `end` enclose a timestep of a schedule with `length` timesteps."""
        check_span("UniformTimesteps", self.start, self.end, length)

    def __call__(self, length: int, count: int, device: torch.device) -> Tensor:
        self.check(length)
        return torch.randint(self.start, self.end or length, (count,), device=device)


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

    def check(self, length: int) -> None:
        """Raise InputError unless the range (start, end), if one is favoured, fits a schedule with `length` timesteps."""
        if not isinstance(self.favour, str):
            check_span("BiasedTimesteps: favour", *self.favour, length)

    def span(self, length: int) -> tuple[int, int]:
        """The first of the favoured timesteps and the one after the last."""
        if not isinstance(self.favour, str):
            return self.favour[0], self.favour[1]
        portion = max(1, int(self.portion * length))
        return (0, portion) if self.favour == "earlier" else (length - portion, length)

    def __call__(self, length: int, count: int, device: torch.device) -> Tensor:
        self.check(length)
        start, end = self.span(length)
        weights = torch.ones(length, device=device)
        weights[start:end] = self.multiplier
        return torch.multinomial(weights, count, replacement=True)


@MODELS.register_module()
class CubicTimesteps:
    """t = (1 - u^3) T with uniform u in [0, 1), so noisy timesteps come most (Mou et al., 2023, T2I-Adapter, sec. 3.4)."""

    def check(self, length: int) -> None:
        """Do nothing: every schedule fits."""

    def __call__(self, length: int, count: int, device: torch.device) -> Tensor:
        uniform = torch.rand(count, device=device)
        return ((1 - uniform**3) * length).long().clamp(max=length - 1)
