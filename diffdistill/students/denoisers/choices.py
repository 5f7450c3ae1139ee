"""What may be left out of a denoiser: sites that are decided independently, each with options of which one is taken."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

# (path of a list, its length, how many stay) -> which indices stay
Pick = Callable[[str, int, int], list[int]]


@dataclass(frozen=True)
class Option:
    """One way to decide a site.

    Attributes:
        keep: the lists that it thins -> indices that stay.
        dropped: the modules that then no longer run, none inside another.
        tags: what such options have in common, for searches that allow or forbid it.
    """

    keep: Mapping[str, list[int]]
    dropped: frozenset[str]
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Frame:
    """What is decided first, because the sites depend on it: which stages there are at all.

    `fresh_allowed`: whether tensors that meet the gap may start from random values.
    """

    name: str
    sites: list[list[Option]]
    keep: Mapping[str, list[int]] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    fresh_allowed: bool = False

    @property
    def tags(self) -> list[str]:
        """All tags of its options."""
        return sorted({tag for site in self.sites for option in site for tag in option.tags})


def thinned(path: str, length: int, count: int, pick: Pick) -> tuple[dict[str, list[int]], set[str]]:
    """The `keep` entry and the dropped modules of a list of which `count` stay; nothing where all do."""
    if count == length:
        return {}, set()
    kept = pick(path, length, count)
    return {path: kept}, {f"{path}.{index}" for index in range(length) if index not in kept}


def of_lists(denoiser: nn.Module, pick: Pick) -> list[Frame]:
    """The choices of a transformer: how many blocks of each of its lists stay, at least the first and the last."""
    sites = []
    for path, blocks in denoiser.named_children():
        if isinstance(blocks, nn.ModuleList) and len(blocks) > 2:
            counts = range(len(blocks), 1, -1)
            found = (thinned(path, len(blocks), count, pick) for count in counts)
            sites.append([Option(keep, frozenset(dropped)) for keep, dropped in found])
    return [Frame("", sites)]
