"""Budgets: how large a student may be, and what of a denoiser's cost each of its layers has."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from diffdistill.benchmarks.timing import seconds
from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import pass_on_meta
from diffdistill.students.size import count

# Unit -> what it limits; a share of the teacher's, or an amount.
UNITS = {
    "parameters": "parameters of the denoiser",
    "gmacs": "GMACs of one call",
    "seconds": "seconds of one call, on this machine",
    "gb": "GB that the weights of the whole pipeline take in fp16",
}
ROUNDS, WARMUP = 5, 2


@dataclass(frozen=True)
class Budget:
    """At most `limit` of `unit`, in absolute terms; `asked` is what the user wrote."""

    unit: str
    limit: float
    asked: str

    def meets(self, cost: Mapping[str, float]) -> bool:
        """Whether a denoiser of that `cost` is within the budget."""
        return cost[self.unit] <= self.limit * (1 + 1e-9)


def parse_budgets(texts: Sequence[str]) -> dict[str, float]:
    """Unit -> number, from "parameters=0.5" and the like. Raises InputError for others."""
    found = {}
    for text in texts:
        unit, equals, number = text.partition("=")
        if unit not in UNITS or not equals:
            raise InputError(f"--budget {text}: the unit {unit!r} is not known; write {', '.join(f'{u}=…' for u in UNITS)}")
        try:
            found[unit] = float(number)
        except ValueError:
            found[unit] = 0.0
        if not 0 < found[unit] < float("inf"):
            raise InputError(f"--budget {text}: give a number above 0, a share of the teacher's such as {unit}=0.5")
    return found


def limits(asked: Mapping[str, float], teacher: Mapping[str, float]) -> list[Budget]:
    """Budgets in absolute terms: up to 1 a number is a share of the teacher's, but GB are always GB.

    Raises InputError for a budget that the teacher meets already.
    """
    found = []
    for unit, number in asked.items():
        limit = number * teacher[unit] if number <= 1 and unit != "gb" else number
        budget = Budget(unit, limit, f"{unit}={number:g}")
        if budget.meets(teacher):
            raise InputError(f"--budget {budget.asked}: the teacher itself meets it, with {teacher[unit]:,.6g}; give less")
        found.append(budget)
    return found


class Costs:
    """What each module of a denoiser of `build_on_meta` costs.

    A student's cost is the teacher's without what it drops: exact for parameters, and for the rest as exact as a plan needs,
    since the student itself is measured in the end.
    """

    def __init__(self, denoiser: nn.Module):
        counter = FlopCounterMode(display=False)
        with torch.device("meta"), torch.no_grad(), counter:
            denoiser.eval()(**rules_of(type(denoiser)).inputs(denoiser.config))
        prefix = f"{type(denoiser).__name__}."
        self.macs = {
            name.removeprefix(prefix): sum(flops.values()) / 2e9 for name, flops in counter.get_flop_counts().items()
        }
        self.seconds: dict[str, float] = {}
        self.parameters = functools.cache(lambda module: count(denoiser.get_submodule(module)))

    def of(self, module: str, unit: str) -> float:
        """What `module` costs."""
        if unit == "gmacs":
            return self.macs.get(module, 0.0)
        if unit == "seconds":
            return self.seconds.get(module, 0.0)
        return self.parameters(module) * (1 if unit == "parameters" else 2e-9)


def cost_of(denoiser: nn.Module, beside: int) -> dict[str, float]:
    """What a denoiser of `build_on_meta` costs, but for seconds; `beside`: parameters of the pipeline's other models."""
    parameters, flops = count(denoiser), pass_on_meta(denoiser)[1]
    return dict(parameters=parameters, gmacs=sum(flops.values()) / 2e9, gb=2e-9 * (parameters + beside))


def time_modules(denoiser: nn.Module, names: Sequence[str], inputs: Mapping, device: str) -> tuple[dict[str, float], float]:
    """Seconds that each of the modules `names` takes in a call of `denoiser`, and the call: medians of five."""
    found: dict[str, list[float]] = {name: [] for name in names}

    def timed(name, forward):
        def run(*args, **kwargs):
            result = []
            found[name].append(seconds(lambda: result.append(forward(*args, **kwargs)), device))
            return result[0]

        return run

    modules = {name: denoiser.get_submodule(name) for name in names}
    for name, module in modules.items():
        module.forward = timed(name, module.forward)
    try:
        with torch.no_grad():
            whole = [seconds(lambda: denoiser(**inputs), device) for _ in range(WARMUP + ROUNDS)]
    finally:
        for module in modules.values():
            del module.forward
    return {name: statistics.median(values[WARMUP:]) for name, values in found.items()}, statistics.median(whole[WARMUP:])
