"""The budget as a knapsack: one option for each site, such that the least is lost and enough is saved."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from diffdistill.students.denoisers.choices import Option

BINS = 240  # steps in which savings are told apart


class Packed(NamedTuple):
    """A choice: what it loses, what it saves of each unit, and its options."""

    loss: float
    saved: tuple[float, ...]
    options: tuple[Option, ...]


def solve(
    sites: Sequence[Sequence[Option]],
    needed: Mapping[str, float],
    loss: Callable[[int, Option], float],
    saving: Callable[[Option, str], float],
) -> Packed | None:
    """The choice of the least total loss that saves at least `needed` of every unit; None where none does.

    Site after site, the best choice for every amount saved so far; of amounts within a 240th of what is needed only the
    better one is gone on with, and nothing counts that is saved beyond need.
    """
    units = list(needed)
    bins = BINS if len(units) == 1 else 60
    states = {(0,) * len(units): Packed(0.0, (0.0,) * len(units), ())}
    for number, site in enumerate(sites):
        rows = best_rows([(loss(number, option), tuple(saving(option, unit) for unit in units), option) for option in site])
        following: dict[tuple[int, ...], Packed] = {}
        for state in states.values():
            for lost, saved, option in rows:
                total = tuple(a + b for a, b in zip(state.saved, saved, strict=True))
                key = tuple(
                    bins if sum_ >= needed[unit] > 0 or needed[unit] <= 0 else int(bins * sum_ / needed[unit])
                    for sum_, unit in zip(total, units, strict=True)
                )
                if key not in following or state.loss + lost < following[key].loss:
                    following[key] = Packed(state.loss + lost, total, (*state.options, option))
        states = following
    return states.get((bins,) * len(units))


def best_rows(rows: list[tuple[float, tuple[float, ...], Option]]) -> list[tuple[float, tuple[float, ...], Option]]:
    """Those of which no other loses less and saves as much."""
    found: list[tuple[float, tuple[float, ...], Option]] = []
    for row in sorted(rows, key=lambda row: (row[0], [-saved for saved in row[1]])):
        if not any(all(a >= b for a, b in zip(better[1], row[1], strict=True)) for better in found):
            found.append(row)
    return found
