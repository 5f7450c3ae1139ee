"""Heads of a discriminator: small networks that say of the features of a layer whether a picture is of the data."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import gcd

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from diffdistill.errors import InputError
from diffdistill.registry import MODELS

Shape = tuple[int, ...]  # of the features of one picture: a map (1, C, H, W) or tokens (1, N, C)


class Head:
    """What a head is made of: called with the shape of its features, returns the network.

    Its convolutions are 2D over the places of a map, and 1D over tokens.

    Args:
        width: the channels inside; by default those of the features.
        spectral: bring the spectral norm of every weight to 1 (Miyato et al., 2018, arXiv:1802.05957).
    """

    def __init__(self, width: int | None = None, spectral: bool = False):
        if width is not None and (not isinstance(width, int) or width < 1):
            raise InputError(f".width={width!r}: give a whole number of 1 or more")
        self.width, self.spectral = width, spectral

    def __call__(self, shape: Shape) -> nn.Module:
        """A network from features, their channels first, to logits (B, 1, ...)."""
        raise NotImplementedError

    def conv(self, shape: Shape, channels: int, out: int, kernel: int, **options) -> nn.Module:
        """A convolution for features of that shape."""
        conv = (nn.Conv2d if is_map(shape) else nn.Conv1d)(channels, out, kernel, **options)
        return spectral_norm(conv) if self.spectral else conv


@MODELS.register_module()
class ResidualHead(Head):
    """1 x 1, then a residual block that sees neighbours, then 1 x 1: a logit for every token or place of a map.

    As in LADD (Sauer et al., 2024, arXiv:2403.12015) and SANA-Sprint (Chen et al., 2025, arXiv:2503.09641), but for
    the norm, which they take over a part of the batch. Neighbours are 9 tokens, of a map 3 x 3 places.
    """

    def __init__(self, width: int | None = None, spectral: bool = True):
        super().__init__(width, spectral)

    def __call__(self, shape: Shape) -> nn.Module:
        channels = channels_of(shape)
        width, kernel = self.width or channels, 3 if is_map(shape) else 9
        first = nn.Sequential(self.conv(shape, channels, width, 1), norm(width), nn.LeakyReLU(0.2))
        near = self.conv(shape, width, width, kernel, padding=kernel // 2)
        block = nn.Sequential(near, norm(width), nn.LeakyReLU(0.2))
        return nn.Sequential(first, Residual(block), self.conv(shape, width, 1, 1))


@MODELS.register_module()
class StridedHead(Head):
    """4 x 4 convolutions that halve a map down to 4 x 4, one more over that, then 1 x 1.

    As in the code of DMD2 (Yin et al., 2024, arXiv:2405.14867), with GroupNorm and SiLU: SDXL's mid block of 32 x 32 takes
    four. There the last one has no padding, so that a picture of the native size has one logit; here it has nine, and one
    of half that size can be read as well.
    """

    def __call__(self, shape: Shape) -> nn.Module:
        width, side, options = self.width or channels_of(shape), min(sides_of(shape)), []
        while side > 4:
            options, side = [*options, dict(stride=2, padding=1)], side // 2
        options.append(dict(padding=1 if side > 1 else 2))
        widths = [channels_of(shape), *[width] * len(options)]
        stages = (
            nn.Sequential(self.conv(shape, *channels, 4, **each), norm(width), nn.SiLU())
            for channels, each in zip(pairwise(widths), options, strict=True)
        )
        return nn.Sequential(*stages, self.conv(shape, width, 1, 1))


class Residual(nn.Module):
    """The mean of an input and what `block` makes of it, of the deviation of either where they are independent."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, features: Tensor) -> Tensor:
        """Features of the shape of those given."""
        return (features + self.block(features)) / 2**0.5


class Discriminator(nn.Module):
    """A head for each layer of `shapes`: layer -> the shape of its features. It computes in fp32."""

    def __init__(self, shapes: Mapping[str, Shape], head: Callable[[Shape], nn.Module]):
        super().__init__()
        self.layers = list(shapes)
        self.heads = nn.ModuleList(head(shape) for shape in shapes.values())

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """The logits of each head, (B, 1, ...), above 0 for the data, from maps (B, C, H, W) or tokens (B, N, C)."""
        pairs = zip(self.heads, (features[layer].float() for layer in self.layers), strict=True)
        return [head(each if is_map(each.shape) else each.transpose(1, 2)) for head, each in pairs]


def is_map(shape: Shape) -> bool:
    """Whether features of that shape are a map, and not tokens."""
    return len(shape) == 4


def channels_of(shape: Shape) -> int:
    """The channels of a map or of tokens."""
    return shape[1] if is_map(shape) else shape[2]


def sides_of(shape: Shape) -> Shape:
    """Height and width of a map, or the number of tokens."""
    return shape[2:] if is_map(shape) else shape[1:2]


def norm(width: int) -> nn.GroupNorm:
    """A norm over one sample alone, so that a logit depends on no other picture, and on no other rank.

    Of groups of at least 8 channels, since one of a single channel and place would be 0.
    """
    return nn.GroupNorm(gcd(32, max(1, width // 8)), width)
