"""The knapsack, patterns of layers, and ranks."""

from itertools import product

import pytest

from diffdistill.search.knapsack import solve
from diffdistill.search.patterns import even, first_ones, in_groups, middle_gone
from diffdistill.search.ranking import chosen, pareto, spearman
from diffdistill.search.space import Cut
from diffdistill.students.denoisers.choices import Option

WEIGHTS = {"a.0": 3.0, "a.1": 5.0, "b.0": 4.0, "b.1": 7.0, "c.0": 2.0}
LOSSES = {"a.0": 1.0, "a.1": 2.5, "b.0": 1.5, "b.1": 2.0, "c.0": 0.1}


def sites():
    groups = [["a.0", "a.1"], ["b.0", "b.1"], ["c.0"]]
    subsets = ([(), ("x.0",), ("x.1",), ("x.0", "x.1")], [(), ("x.0",)])
    return [
        [Option({}, frozenset(name.replace("x", group[0][0]) for name in names)) for names in subsets[len(group) == 1]]
        for group in groups
    ]


def total(values, options):
    return sum(values[name] for option in options for name in option.dropped)


@pytest.mark.parametrize("needed", [1, 4, 8, 9.5, 13, 21])
def test_the_knapsack_loses_as_little_as_the_best_of_all_choices(needed):
    packed = solve(
        sites(),
        {"parameters": needed},
        lambda _, option: total(LOSSES, [option]),
        lambda option, _: total(WEIGHTS, [option]),
    )
    enough = [options for options in product(*sites()) if total(WEIGHTS, options) >= needed]
    assert packed.loss == pytest.approx(min(total(LOSSES, options) for options in enough))
    assert total(WEIGHTS, packed.options) >= needed


def test_several_budgets_are_all_met_or_nothing_is_found():
    def saving(option, unit):
        return len(option.dropped) if unit == "gmacs" else total(WEIGHTS, [option])

    def lost(site, option):
        return total(LOSSES, [option])

    packed = solve(sites(), {"parameters": 7, "gmacs": 2}, lost, saving)
    assert {name for option in packed.options for name in option.dropped} == {"b.1", "c.0"}
    assert solve(sites(), {"parameters": 7, "gmacs": 6}, lost, saving) is None


def test_patterns_keep_what_their_names_say():
    scores = {f"blocks.{index}": score for index, score in enumerate([9, 1, 2, 3, 7, 8, 6, 5, 4, 9])}
    assert in_groups(scores, None)("blocks", 10, 5) == [0, 4, 5, 6, 9]
    assert in_groups(scores, 2)("blocks", 10, 6) == [0, 2, 4, 5, 7, 9]
    assert even("blocks", 10, 4) == [0, 3, 6, 9]
    assert first_ones("blocks", 10, 3) == [0, 1, 2]
    assert middle_gone("blocks", 10, 5) == [0, 1, 2, 8, 9]


@pytest.mark.parametrize(("size", "count"), [(2, 5), (4, 7), (3, 2), (None, 9)])
def test_groups_keep_the_ends_and_the_number_that_is_asked_for(size, count):
    kept = in_groups({f"blocks.{index}": index % 3 for index in range(12)}, size)("blocks", 12, count)
    assert len(kept) == count
    assert kept[0] == 0
    assert kept[-1] == 11


def test_one_of_every_kind_is_trained_before_the_next_best():
    """Those that leave a stage without attention come last of all kinds, however small their error."""

    def cut(pattern, error, **keep):
        return Cut(pattern, {"blocks": [int(1000 * error)]} | keep, [], {}, error=error)

    blind = cut("ranked", 0.05, **{"down_blocks.1.attentions": []})
    ranked = [blind, cut("ranked", 0.1), cut("groups of 2", 0.2), cut("even", 0.3), cut("published: bk_sdm_base", 0.4)]
    found = [each.pattern for each in chosen(ranked, 5)]
    assert found == ["ranked", "even", "published: bk_sdm_base", "ranked", "groups of 2"]
    assert chosen(ranked, 5)[3] is blind
    assert len(chosen(ranked, 2)) == 2


def test_rank_correlations_and_the_pareto_front():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 2, 3], [5, 5, 5, 5]) == 0
    assert pareto([(3, 1.0), (1, 5.0), (2, 6.0), (2, 2.0), (4, 1.0)]) == [(1, 5.0), (2, 2.0), (3, 1.0)]
