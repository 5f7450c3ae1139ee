"""Curves of a run: joined over its starts, thinned, smoothed."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

Curve = list[list]  # two lists of one length: steps, and values or None where there was no finite one


def thin_curve(steps: Iterable[int], values: Sequence[float], points: int) -> Curve:
    """At most `points` points: means of as many finite neighbours, each at its last step."""
    steps, values = list(steps), np.asarray(values, dtype=float)
    bins = np.array_split(np.arange(len(values)), min(points, len(values)))
    means = []
    for indices in bins:
        finite = values[indices][np.isfinite(values[indices])]
        means.append(float(f"{finite.mean():.6g}") if len(finite) else None)
    return [[steps[indices[-1]] for indices in bins], means]


def smooth(values: Sequence[float | None], window: int) -> list[float | None]:
    """Mean over `window` points around each, those at the beginning over as many as lie on both sides; None stays None."""
    half, smoothed = window // 2, []
    for i, value in enumerate(values):
        near = [v for v in values[max(0, i - half) : i + min(half, i) + 1] if v is not None]
        smoothed.append(None if value is None else sum(near) / len(near))
    return smoothed


def read_scalars(file: Path) -> dict[str, Curve]:
    """The training curves of one start, from the JSON lines that MMEngine writes to `vis_data/scalars.json`."""
    curves: dict[str, Curve] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # the last line of a run that was killed
            continue
        if not isinstance(row, dict) or "iter" not in row or not isinstance(row.get("step"), int):  # a validation
            continue
        for name, value in row.items():
            if name not in ("iter", "step", "epoch") and isinstance(value, (int, float)):
                steps, values = curves.setdefault(name, [[], []])
                steps.append(row["step"])
                values.append(float(value) if math.isfinite(value) else None)
    return curves


def join(earlier: Mapping[str, Curve], later: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves of two starts of a run. `later` replaces what `earlier` has from its first step on: it did these again."""
    first = min((steps[0] for steps, _ in later.values() if steps), default=math.inf)
    joined = {}
    for name in [*earlier, *(name for name in later if name not in earlier)]:
        steps, values = earlier.get(name, [[], []])
        kept = [(step, value) for step, value in zip(steps, values, strict=True) if step < first]
        points = [*kept, *zip(*later.get(name, [[], []]), strict=True)]
        joined[name] = [[step for step, _ in points], [value for _, value in points]]
    return joined


def extend(history: Mapping[str, Curve], logged: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves of `history`, each with what was `logged` after its end; other curves are as they were logged."""
    curves = dict(logged)
    for name, (steps, values) in history.items():
        more = [(s, v) for s, v in zip(*logged.get(name, [[], []]), strict=True) if s > steps[-1]]
        curves[name] = [[*steps, *(s for s, _ in more)], [*values, *(v for _, v in more)]]
    return curves
