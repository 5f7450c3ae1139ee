"""The order of candidates, and how well what was known before training foretells what comes after."""

from collections.abc import Sequence

import torch

from diffdistill.report.numbers import METRICS
from diffdistill.search.space import Cut


def empties_attentions(cut: Cut) -> bool:
    """Whether a cut leaves a stage without any of its attentions; the mid block's do not count."""
    return any(path.endswith(".attentions") and "mid_block" not in path and not kept for path, kept in cut.keep.items())


def kind_of(cut: Cut) -> tuple:
    """The kind of a candidate, of which the best is trained: what it has lost, and whether scores or a pattern chose it."""
    chosen_by = "published" if "published" in cut.pattern else cut.pattern.split(",")[0]
    chosen_by = "scores" if chosen_by.startswith(("groups of", "ranked")) else chosen_by
    return empties_attentions(cut), "down_blocks" in cut.keep, chosen_by


def first_metric(cut: Cut) -> tuple[str, float] | None:
    """The main metric of a trained cut, by name."""
    return next(iter(cut.metrics.items()), None)


def chosen(ranked: Sequence[Cut], most: int) -> list[Cut]:
    """Which to train: the best by error of every kind, then the next best.

    Kinds that keep attentions in all stages come first: what a stage knew of the caption is not won back by a short
    training, however small the error before it (docs/results/choose_student.md).
    """
    kinds: dict[tuple, Cut] = {}
    for cut in ranked:
        kinds.setdefault(kind_of(cut), cut)
    ahead = sorted(kinds.values(), key=lambda cut: (empties_attentions(cut), cut.error))
    return [*ahead, *(cut for cut in ranked if cut not in ahead)][:most]


def rank(cuts: Sequence[Cut]) -> list[Cut]:
    """The trained ones first, by the config's metric or else by their error after training; then the others by theirs."""

    def order(cut: Cut) -> tuple:
        if cut.trained_error is None:
            return 1, 0.0, cut.error
        metric = first_metric(cut)
        if metric is None:
            return 0, 0.0, cut.trained_error
        lower = METRICS.get(metric[0], ("", "", "higher"))[2] == "lower"
        return 0, metric[1] if lower else -metric[1], cut.trained_error

    return sorted(cuts, key=order)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of (cost, error) to which no other is cheaper and at least as good, by cost."""
    front: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not front or error < front[-1][1]:
            front.append((cost, error))
    return front


def correlations(cuts: Sequence[Cut]) -> dict[str, float]:
    """Spearman's rank correlations of the trained cuts: of what was known before with what came out.

    1 where the order foretold is the order found. Empty for fewer than three.
    """
    trained = [cut for cut in cuts if cut.trained_error is not None]
    before = {
        "sum of scores": lambda cut: None if cut.loss is None else -cut.loss,
        "error before training": lambda cut: -cut.error,
        "error after training": lambda cut: -cut.trained_error,
    }
    after = {"error after training": lambda cut: -cut.trained_error}
    if trained and first_metric(trained[0]):
        after[first_metric(trained[0])[0]] = lambda cut: first_metric(cut)[1]
    found = {}
    for cause, expected in before.items():
        for effect, outcome in after.items():
            pairs = [(expected(cut), outcome(cut)) for cut in trained if expected(cut) is not None]
            if cause != effect and len(pairs) > 2:
                found[f"{cause} → {effect}"] = round(spearman(*zip(*pairs, strict=True)), 3)
    return found


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation; 0 where one of the two does not vary."""
    a, b = (ranks(values) for values in (first, second))
    return torch.nan_to_num(torch.corrcoef(torch.stack([a, b]))[0, 1]).item()


def ranks(values: Sequence[float]) -> torch.Tensor:
    """The rank of every value; equal ones share the mean of theirs."""
    tensor = torch.tensor(values, dtype=torch.float64)
    below, same = (tensor[:, None] > tensor).sum(1), (tensor[:, None] == tensor).sum(1)
    return below + (same - 1) / 2
