"""Cuts that meet a budget: knapsacks over the scores in several patterns, even and contiguous ones, and published ones."""

import functools
import math
import operator
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from diffdistill.config.read import config_root, read_config
from diffdistill.errors import InputError
from diffdistill.search.budget import Budget, Costs
from diffdistill.search.knapsack import solve
from diffdistill.search.patterns import patterns
from diffdistill.search.space import Cut, Space
from diffdistill.students.cut import resolve_keep
from diffdistill.students.denoisers.choices import Frame, Option, Pick
from diffdistill.students.denoisers.rules import rules_of

BY_SCORE = ("groups of 2", "groups of 4", "ranked")
VARIED = 12  # times that scores are varied at most, for more candidates
NEAR = 0.7  # a published cut that has less than this share of a budget is not one for it


class Losses:
    """What options lose: by the scores of the layers that they drop, or so that all sites lose alike."""

    def __init__(self, frame: Frame, scores: Mapping[str, float], costs: Costs):
        self.scores, self.costs = scores, costs
        self.largest = [max((self.parameters(option) for option in site), default=0) for site in frame.sites]

    def parameters(self, option: Option) -> float:
        """Parameters that an option saves."""
        return self.saving(option, "parameters")

    def saving(self, option: Option, unit: str) -> float:
        """What an option saves of `unit`."""
        return sum(self.costs.of(module, unit) for module in option.dropped)

    def by_score(self, site: int, option: Option) -> float:
        """The sum of the scores, which are nearly additive; infinite where a layer has none."""
        return sum(self.scores.get(module, float("inf")) for module in option.dropped)

    def evenly(self, site: int, option: Option) -> float:
        """The parameters lost, squared, over all that the site could lose: least in total where all sites lose alike."""
        return self.parameters(option) ** 2 / max(self.largest[site], 1)


def restrictions(frame: Frame) -> list[tuple[str, set[str]]]:
    """Parts of a frame that are searched by themselves, so that candidates differ: a name, and the tags left out."""
    mids = [tag for tag in frame.tags if tag.startswith("mid block")]
    others = [tag for tag in frame.tags if tag not in mids]
    found = []
    for mid in ["", *mids] if len(mids) > 1 else [""]:
        forbidden = {tag for tag in mids if mid and tag != mid}
        found.append((mid, forbidden))
        if others:
            found.append((", ".join(filter(None, [mid, "attentions stay"])), forbidden | set(others)))
    return found


@dataclass(frozen=True)
class Task:
    """What candidates are looked for: in which space, by which scores, and within which budgets.

    Attributes:
        scores, frame_scores: layer, or frame, -> the error of leaving it out.
        costs, whole: what layers, and the whole, of the space's denoiser cost.
    """

    space: Space
    scores: Mapping[str, float]
    frame_scores: Mapping[str, float]
    costs: Costs
    whole: Mapping[str, float]
    budgets: Sequence[Budget]

    def varied(self, seed: int) -> "Task":
        """The same with every score changed at random, by half to double in most cases."""
        drawn = random.Random(seed)
        return replace(self, scores={name: value * math.exp(drawn.gauss(0, 0.6)) for name, value in self.scores.items()})

    def choices(self, pick: Pick) -> list[Frame]:
        """The frames of the space, with those options that drop nothing without a score."""
        frames = rules_of(self.space.kind).choices(self.space.denoiser, pick)
        scored = self.scores.keys()
        found = [replace(f, sites=[[o for o in site if o.dropped <= scored] for site in f.sites]) for f in frames]
        return [frame for frame in found if all(frame.sites)]


@dataclass(frozen=True)
class Found:
    """A solution: lists of the space's denoiser, not planned yet."""

    pattern: str
    keep: dict[str, list[int]]
    fresh_allowed: bool
    loss: float


def knapsacks(task: Task, only: Collection[str] | None = None) -> Iterator[Found]:
    """A solution for every pattern (or those of `only`), frame and restriction that has one."""
    for pattern, pick in patterns(task.scores).items():
        if only and pattern not in only:
            continue
        for frame in task.choices(pick):
            losses = Losses(frame, task.scores, task.costs)
            gone = {unit: sum(task.costs.of(module, unit) for module in frame.dropped) for unit in task.whole}
            needed = {b.unit: task.whole[b.unit] - b.limit - gone[b.unit] for b in task.budgets}
            objectives = {"": losses.by_score} | ({} if pattern in BY_SCORE else {"spread": losses.evenly})
            for (restriction, forbidden), (objective, loss) in product(restrictions(frame), objectives.items()):
                sites = [[option for option in site if not option.tags & forbidden] for site in frame.sites]
                packed = solve(sites, needed, loss, losses.saving) if all(sites) else None
                if packed is None:
                    continue
                keep = functools.reduce(operator.or_, (dict(option.keep) for option in packed.options), dict(frame.keep))
                lost = sum(losses.by_score(0, option) for option in packed.options)
                name = ", ".join(filter(None, [pattern, objective, restriction, frame.name]))
                yield Found(name, keep, frame.fresh_allowed, lost + task.frame_scores.get(frame.name, 0.0))


def published(space: Space) -> Iterator[tuple[str, dict]]:
    """(name, keep list of the teacher) of the project's published cuts that fit this teacher."""
    for path in sorted((config_root() / "_base_" / "cuts").glob("*.py")):
        keep = read_config(path).cut.get("student", {}).get("keep") or {}
        try:
            layers = resolve_keep(space.lengths, keep)
        except InputError:
            continue
        if all(set(layers.kept[path]) <= set(space.layers.kept[path]) for path in space.lengths):
            yield path.stem, space.without_gone(layers.kept)


def candidates(task: Task, most: int) -> list[Cut]:
    """At most `most` different cuts within the budgets, each of which the config can train.

    The published ones and the best of every pattern come first, then those that lose least. Scores are varied until there
    are enough. Raises InputError where no cut meets the budgets.
    """
    space, found = task.space, {}
    for search in [task, *(task.varied(seed) for seed in range(VARIED))]:
        for each in knapsacks(search, None if search is task else BY_SCORE):
            lists = space.in_teacher(each.keep)
            if key_of(lists) not in found:
                varied = "" if search is task else ", varied"
                cut = space.cut(each.pattern + varied, lists, each.fresh_allowed, loss_of(task, each, search))
                found[key_of(lists)] = cut if cut and meets(task, cut) else None
        if sum(cut is not None for cut in found.values()) >= 2 * most:
            break
    for name, lists in published(space):
        cut = found.get(key_of(lists)) or space.cut("", lists)
        if cut and meets(task, cut, NEAR):
            cut.pattern = "; ".join(filter(None, [cut.pattern, f"published: {name}"]))
            found[cut.key] = cut
    cuts = [cut for cut in found.values() if cut]
    if not cuts:
        raise InputError(smallest(task))
    chosen, troubles = [], []
    for cut in in_order(cuts):
        if len(chosen) < most:
            trouble = space.trouble(cut)
            (troubles if trouble else chosen).append(trouble or cut)
    if not chosen:
        raise InputError(f"none of the cuts within the budget can be trained by this config: {troubles[0]}")
    return chosen


def meets(task: Task, cut: Cut, least: float = 0.0) -> bool:
    """Whether a cut meets the budgets, and uses at least a share of them; seconds are measured later."""
    budgets = [budget for budget in task.budgets if budget.unit != "seconds"]
    return all(budget.meets(cut.cost) and cut.cost[budget.unit] >= least * budget.limit for budget in budgets)


def loss_of(task: Task, found: Found, search: Task) -> float | None:
    """The loss of a solution by the scores that were measured; None where they were varied."""
    return found.loss if search is task else None


def key_of(keep: Mapping) -> str:
    """The key of a cut with that keep list."""
    return Cut("", dict(keep), [], {}).key


def in_order(cuts: list[Cut]) -> list[Cut]:
    """Published ones, the best of every pattern, and then the others by what they lose."""
    by_loss = sorted(cuts, key=lambda cut: float("inf") if cut.loss is None else cut.loss)
    firsts = {cut.pattern.split(",")[0]: cut for cut in reversed(by_loss)}
    ahead = [cut for cut in by_loss if "published" in cut.pattern]
    ahead += [cut for cut in firsts.values() if cut not in ahead]
    return ahead + [cut for cut in by_loss if cut not in ahead]


def smallest(task: Task) -> str:
    """Says that no cut meets the budgets, and the smallest that one does."""
    texts = []
    for budget in task.budgets:
        whole = task.whole[budget.unit]
        least = whole
        for pick in patterns(task.scores).values():
            for frame in task.choices(pick):
                losses = Losses(frame, task.scores, task.costs)
                best = [max(site, key=lambda option: losses.saving(option, budget.unit)) for site in frame.sites]
                keep = functools.reduce(operator.or_, (dict(option.keep) for option in best), dict(frame.keep))
                cut = task.space.cut("", task.space.in_teacher(keep), frame.fresh_allowed)
                if cut is not None:
                    saved = sum(losses.saving(option, budget.unit) for option in best)
                    least = min(least, cut.cost.get(budget.unit, whole - saved))
        share = "" if budget.unit == "gb" else f" ({budget.unit}={math.ceil(1000 * least / whole) / 1000:g})"
        texts.append(f"--budget {budget.asked}: the smallest cut has {least:,.6g}{share}")
    return "no cut meets the budget; " + "; ".join(texts)
