"""Which layers of a list stay, where it is decided how many: the patterns that candidates are made of."""

from collections.abc import Mapping

from diffdistill.students.denoisers.choices import Pick


def ends_fixed(length: int, count: int) -> tuple[list[int], int]:
    """The indices that stay in any case, the first and, of more than one, the last; and how many more stay."""
    fixed = [0] if count == 1 else [0, length - 1]
    return fixed, count - len(fixed)


def in_groups(scores: Mapping[str, float], size: int | None) -> Pick:
    """The layers of the highest scores among `size` neighbours, of which as many stay as of all; None: among all layers.

    The first and the last stay. Ranking all layers at once tends to drop neighbours together, and loses to an even pattern
    (TinyFusion: Fang et al., 2024, arXiv:2412.01199, table 4).
    """

    def pick(path: str, length: int, count: int) -> list[int]:
        def score(index: int) -> float:
            return scores.get(f"{path}.{index}", float("inf"))

        if size is None and count == 1:
            return [max(range(length), key=score)]
        fixed, more = ends_fixed(length, count)
        inner = [index for index in range(length) if index not in fixed]
        if not inner:
            return fixed
        width = size or len(inner)
        kept = list(fixed)
        for start in range(0, len(inner), width):
            group = inner[start : start + width]
            end = start + len(group)
            share = round(more * end / len(inner) - 1e-9) - round(more * start / len(inner) - 1e-9)
            kept += sorted(group, key=score, reverse=True)[:share]
        return sorted(kept)

    return pick


def even(path: str, length: int, count: int) -> list[int]:
    """Spread evenly, from the first to the last; a single one is the first."""
    return [0] if count == 1 else [round(i * (length - 1) / (count - 1)) for i in range(count)]


def first_ones(path: str, length: int, count: int) -> list[int]:
    """The first ones, as SSD-1B and KOALA keep transformer layers."""
    return list(range(count))


def middle_gone(path: str, length: int, count: int) -> list[int]:
    """The first and the last ones: what goes is contiguous, in the middle."""
    return [*range((count + 1) // 2), *range(length - count // 2, length)]


def patterns(scores: Mapping[str, float]) -> dict[str, Pick]:
    """Name -> pattern."""
    return {
        "groups of 2": in_groups(scores, 2),
        "groups of 4": in_groups(scores, 4),
        "ranked": in_groups(scores, None),
        "even": even,
        "first ones": first_ones,
        "middle gone": middle_gone,
    }
