"""What may be left out of a UNet: layers of a stage and of its mirror, attentions, transformer layers, mid block, stages."""

from collections.abc import Iterator
from itertools import combinations, product

from torch import nn

from diffdistill.students.denoisers.choices import Frame, Option, Pick, thinned

NO_ATTENTION = "an attention gone"
MOST = 4  # ResNets of a stage up to which every choice of them is tried; beyond that, the first ones stay


def unet_choices(denoiser: nn.Module, pick: Pick) -> list[Frame]:
    """A frame for every number of innermost stages that may go, each with a site for every stage that stays."""
    stages = len(denoiser.down_blocks)
    frames = []
    for gone in range(stages - 1):
        left = stages - gone
        sites = [list(stage_options(denoiser, stage, left, pick)) for stage in range(left)]
        if not gone:
            frames.append(Frame("", sites))
            continue
        keep = {"down_blocks": list(range(left)), "up_blocks": list(range(gone, stages))}
        dropped = {f"down_blocks.{stage}" for stage in range(left, stages)} | {f"up_blocks.{i}" for i in range(gone)}
        dropped |= {f"down_blocks.{left - 1}.downsamplers"}
        if denoiser.mid_block is not None:
            keep |= {"mid_block.resnets": [], "mid_block.attentions": []}
            dropped |= {"mid_block"}
        name = "innermost stage and mid block gone" if gone == 1 else f"{gone} innermost stages and mid block gone"
        frames.append(Frame(name, sites, keep, frozenset(dropped), fresh_allowed=True))
    return frames


def stage_options(denoiser: nn.Module, stage: int, left: int, pick: Pick) -> Iterator[Option]:
    """The ways to thin a stage and its mirror; of the innermost of all, with the mid block, whose depth is the stage's."""
    stages = len(denoiser.down_blocks)
    down, up = f"down_blocks.{stage}", f"up_blocks.{stages - 1 - stage}"
    mids = list(mid_options(denoiser, pick)) if stage == stages - 1 and left == stages else [("", None, {}, set())]
    for (downs, ups), (mid, depth, mid_keep, mid_dropped) in product(layer_choices(denoiser, stage), mids):
        sides = [list(side_options(denoiser, block, kept, pick)) for block, kept in ((down, downs), (up, ups))]
        for (down_depth, *ours), (_, *theirs) in product(*sides):
            if depth and down_depth and depth != down_depth:
                continue  # no config describes another depth of the mid block than of the innermost stage
            keep, dropped, tags = dict(mid_keep), set(mid_dropped), {mid} - {""}
            for more_keep, more_dropped, gone in (ours, theirs):
                keep |= more_keep
                dropped |= more_dropped
                tags |= {NO_ATTENTION} if gone else set()
            yield Option(keep, frozenset(dropped), frozenset(tags))


def layer_choices(denoiser: nn.Module, stage: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Which ResNets of a stage and of its mirror may stay together: n and n + 1, such that every weight fits its place."""
    block, mirror = denoiser.down_blocks[stage], denoiser.up_blocks[len(denoiser.down_blocks) - 1 - stage]
    total = len(block.resnets)
    found = []
    for count in range(total, 0, -1):
        downs = combinations(range(total), count) if total <= MOST else [tuple(range(count))]
        ups = combinations(range(total + 1), count + 1) if total <= MOST else [(*range(count), total)]
        found += [(d, u) for d, u in product(list(downs), list(ups)) if fits(block, mirror, d, u)]
    return found


def fits(block: nn.Module, mirror: nn.Module, downs: tuple[int, ...], ups: tuple[int, ...]) -> bool:
    """Whether these ResNets, one after the other, get as many channels as their weights are for.

    ResNet k of the mirror gets the hidden state and the output of one of the stage's, the last of them what enters it.
    """
    entering, width = block.resnets[0].in_channels, block.resnets[0].out_channels
    last = mirror.resnets[-1]
    coming, skip = mirror.resnets[0].in_channels - width, last.in_channels - last.out_channels
    wanted = [coming + width, *[last.out_channels + width] * (len(ups) - 2), last.out_channels + skip]
    down_fits = [block.resnets[i].in_channels for i in downs] == [entering, *[width] * (len(downs) - 1)]
    return down_fits and [mirror.resnets[i].in_channels for i in ups] == wanted


def side_options(denoiser: nn.Module, path: str, kept: tuple[int, ...], pick: Pick) -> Iterator[tuple]:
    """(depth, keep, dropped, whether its attentions are gone) of a block that keeps the ResNets `kept`.

    The depth is that of its attentions, all the same, 0 where it has none.
    """
    block = denoiser.get_submodule(path)
    everything = range(len(block.resnets))
    keep = {} if len(kept) == len(everything) else {f"{path}.resnets": list(kept)}
    dropped = {f"{path}.resnets.{i}" for i in everything if i not in kept}
    attentions = getattr(block, "attentions", None)
    if not attentions:
        yield 0, keep, dropped, False
        return
    without = {f"{path}.attentions.{i}" for i in everything}
    yield 0, keep | {f"{path}.attentions": []}, dropped | without, True
    keep |= {f"{path}.attentions": list(kept)} if keep else {}
    dropped = dropped | {f"{path}.attentions.{i}" for i in everything if i not in kept}
    lengths = {i: len(attentions[i].transformer_blocks) for i in kept}
    for depth in range(1, max(lengths.values()) + 1):
        thin = [thinned(f"{path}.attentions.{i}.transformer_blocks", n, min(n, depth), pick) for i, n in lengths.items()]
        more_keep = {name: indices for entry, _ in thin for name, indices in entry.items()}
        yield depth, keep | more_keep, dropped | set().union(*(gone for _, gone in thin)), False


def mid_options(denoiser: nn.Module, pick: Pick) -> Iterator[tuple]:
    """(tag, depth, keep, dropped) of the mid block: whole at any depth, a single ResNet, or gone."""
    mid = denoiser.mid_block
    if mid is None:
        yield "", None, {}, set()
        return
    yield "mid block gone", None, {"mid_block.resnets": [], "mid_block.attentions": []}, {"mid_block"}
    attentions = getattr(mid, "attentions", None)
    if not attentions:
        yield "mid block whole", None, {}, set()
        return
    others = {f"mid_block.resnets.{i}" for i in range(1, len(mid.resnets))}
    gone = {f"mid_block.attentions.{i}" for i in range(len(attentions))}
    yield "mid block one ResNet", None, {"mid_block.resnets": [0], "mid_block.attentions": []}, others | gone
    length = len(attentions[0].transformer_blocks)
    for depth in range(1, length + 1):
        path = "mid_block.attentions.0.transformer_blocks"
        yield "mid block whole", depth, *thinned(path, length, depth, pick)
