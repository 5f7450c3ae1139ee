"""Clocks and memory gauges. Parts are measured in turn in every round, so that a machine that slows down slows all alike."""

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress


def nothing() -> None:
    """Do nothing: the `prepare` of a part that needs none."""


@dataclass(frozen=True)
class Part:
    """Something to measure: `run` is timed, `prepare` goes before it and is not."""

    run: Callable[[], object]
    prepare: Callable[[], object] = nothing


def seconds(function: Callable[[], object], device: str) -> float:
    """Seconds that `function` takes, with the work that it leaves to a GPU."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait until the GPU has finished what it was given; do nothing on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def memory_rise(function: Callable[[], object], device: str) -> int | None:
    """Bytes by which memory rises at most while `function` runs; None where that cannot be told.

    On a GPU what torch's allocator hands out, on Linux the process's resident memory.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not sys.platform.startswith("linux"):
        function()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # else what an earlier part has freed is used again, and the rise comes out too small
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = resident("VmRSS")
    function()
    return max(resident("VmHWM") - before, 0)


def resident(field: str) -> int:
    """Bytes of resident memory by Linux: now (VmRSS), or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def interleave(
    parts: Mapping[str, Part], rounds: int, warmup: int, device: str, title: str = ""
) -> tuple[dict[str, list[float]], dict[str, int | None]]:
    """Seconds of every part in every round, and bytes by which each raises the memory.

    A round runs every part once, in the order given. Before the timed rounds come `warmup` ones that are not timed; memory
    is measured in the last of them.
    """
    times: dict[str, list[float]] = {name: [] for name in parts}
    peaks: dict[str, int | None] = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=(warmup + rounds) * len(parts))
        for number in range(warmup + rounds):
            for name, part in parts.items():
                part.prepare()
                if number < warmup:
                    peaks[name] = memory_rise(part.run, device)
                else:
                    times[name].append(seconds(part.run, device))
                progress.advance(task)
    return times, peaks


def ninetieth(values: Sequence[float]) -> float:
    """The 90th percentile, interpolated; of a single value, that value."""
    return statistics.quantiles(values, n=10, method="inclusive")[-1] if len(values) > 1 else values[0]


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median over rounds of value / other of the same round: what both share in a round cancels."""
    return statistics.median(a / b for a, b in zip(values, others, strict=True))
