"""Layers that compute with weights of a few bits, while their full weights are trained.

Only classes of layers change, in place: names and shapes of parameters stay those of diffusers, so checkpoints, averages,
deep copies, sharding and recomputation do not know of it.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.students.cut import path_matches

KEY = "model.student.quantize"
# Bits -> how many values a weight may have. 1.58 is log2(3): ternary weights, as of BitNet b1.58 (Ma et al., 2024).
LEVELS = {8: 255, 4: 16, 3: 8, 2: 4, 1.58: 3, 1: 2}
# Values -> the distance of two, in mean magnitudes of the weights, that loses least of normal weights (Max, 1960, table II).
MEAN = math.sqrt(2 / math.pi)  # mean magnitude of normal weights, in standard deviations
BEST_STEPS = {2: 1.596 / MEAN, 3: 1.224 / MEAN, 4: 0.9957 / MEAN}
TINY = torch.finfo(torch.float32).tiny
GROUP = 32  # input channels that share a scale, where no size is given


@dataclasses.dataclass(frozen=True)
class Grid:
    """The values that weights may have: `levels` of them, evenly spaced about 0, with a scale for each group.

    Args:
        bits: a key of `LEVELS`.
        group_size: input channels that share a scale, at each place of a convolution's kernel; None: a whole row does.
    """

    bits: float
    group_size: int | None = None

    @property
    def levels(self) -> int:
        """How many values there are."""
        return LEVELS[self.bits]

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest values to `weight` (O, I, ...) in steps, -(levels - 1) / 2 to its opposite, and the steps' sizes.

        Both in fp32, as (O, I / group, group, ...), the second with a 1 for the group. From 3 bits on the largest weight of
        a group is the last value. Of fewer values the step is the best one for normal weights, since the largest weight
        would leave most of them unused; but a group whose weights are such values already keeps them.
        """
        groups = weight.float().unflatten(1, (-1, self.group_size or weight.shape[1]))
        over = 2 if self.group_size else tuple(range(1, groups.dim()))
        size, top = groups.abs().clamp_min(TINY), (self.levels - 1) / 2
        step = widest = size.amax(over, keepdim=True) / top
        if self.levels in BEST_STEPS:
            there = groups / widest + top
            kept = (there - there.round()).abs().amax(over, keepdim=True) < 0.01
            step = torch.where(kept, widest, size.mean(over, keepdim=True) * BEST_STEPS[self.levels])
        return (groups / step + top).round().clamp(0, self.levels - 1) - top, step

    def quantize(self, weight: Tensor) -> Tensor:
        """`weight` with every element at the nearest value. Doing it twice is doing it once."""
        codes, step = self.codes(weight)
        return (codes * step).view_as(weight).to(weight.dtype)


def quantize_tokens(tokens: Tensor) -> Tensor:
    """`tokens` (..., C) in 8 bits, with a scale for each token of the last axis, as torchao has it."""
    step = (tokens.abs().amax(-1, keepdim=True).float() / 127.5).clamp_min(torch.finfo(torch.float32).eps)
    return ((tokens * (1 / step)).round().clamp(-128, 127) * step).to(tokens.dtype)


class StraightThrough(torch.autograd.Function):
    """A quantisation whose gradient is passed on as if there was none (Bengio et al., 2013, arXiv:1308.3432, sec. 4)."""

    @staticmethod
    def forward(ctx, full: Tensor, quantize: Callable[[Tensor], Tensor]) -> Tensor:
        """What `quantize` makes of `full`."""
        return quantize(full)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient at `full`: that at its quantised values."""
        return gradient, None


class QuantizedLinear(nn.Linear):
    """A linear layer with the weights of its `grid`, None for full ones, and inputs of 8 bits if `activations`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """The layer's output at `tokens` (..., C)."""
        if self.activations:
            tokens = StraightThrough.apply(tokens, quantize_tokens)
        return F.linear(tokens, current_weight(self), self.bias)


class QuantizedConv2d(nn.Conv2d):
    """A convolution with the weights of its `grid`."""

    def forward(self, features: Tensor) -> Tensor:
        """The layer's output at `features` (B, C, H, W)."""
        return self._conv_forward(features, current_weight(self), self.bias)


KINDS = {nn.Linear: QuantizedLinear, nn.Conv2d: QuantizedConv2d}


def current_weight(layer: nn.Module) -> Tensor:
    """What a quantised layer computes with."""
    return layer.weight if layer.grid is None else StraightThrough.apply(layer.weight, layer.grid.quantize)


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How the layers of a student are quantised: linear layers and convolutions of its blocks.

    Embeddings, first and last layers, which hold few of the weights, are left whole.

    Args:
        bits: of a weight: 8, 4, 3, 2, 1.58 (ternary) or 1; None: nothing is quantised, and this is false.
        group_size: input channels that share a scale, 32 by default; with 8 bits a row has one.
        skip: patterns of modules that are left whole, with all that is inside them.
        activations: 8 to quantise the inputs of linear layers as well, each token by itself; only with 8 bits.
        way: of quantisation after training, where the values are not those of a grid.
        key: where the config says so, for errors.

    Raises InputError for what `Grid` does not know.
    """

    bits: float | None = None
    group_size: int | None = None
    skip: Sequence[str] = ()
    activations: int | None = None
    way: str | None = None
    key: str = KEY

    def __bool__(self):
        return self.bits is not None

    def __post_init__(self):
        if not self:
            return
        if isinstance(self.bits, bool) or self.bits not in LEVELS:
            raise InputError(f"{self.key}.bits={self.bits!r} is unknown; use 8, 4, 3, 2, 1.58 (ternary) or 1")
        if self.activations is not None and (self.activations, self.bits) != (8, 8):
            raise InputError(
                f"{self.key}.activations={self.activations!r} with bits={self.bits!r}: inputs are quantised to 8 bits"
                " beside weights of 8 bits; set both to 8, or leave activations out"
            )
        if self.group_size is not None and self.bits == 8:
            raise InputError(
                f"{self.key}.group_size={self.group_size!r}: weights of 8 bits have a scale a row; leave it out"
            )
        if self.group_size is not None and (not isinstance(self.group_size, int) or self.group_size < 2):
            raise InputError(f"{self.key}.group_size={self.group_size!r}: give a whole number of 2 or more, such as {GROUP}")

    @property
    def described(self) -> dict | None:
        """What it is, as JSON holds it; None for nothing."""
        entries = dict(bits=self.bits, group_size=self.grid.group_size, skip=list(self.skip), activations=self.activations)
        return entries | dict(way=self.way) if self else None

    def counted(self, layers: Mapping[str, nn.Module]) -> dict:
        """What it is, how many `layers` it has quantised, and how many `parameters` are in those."""
        return dict(self.described, layers=len(layers), parameters=sum(layer.weight.numel() for layer in layers.values()))

    @property
    def grid(self) -> Grid:
        """The values that weights may have."""
        return Grid(self.bits, None if self.bits == 8 else self.group_size or GROUP)

    def layers(self, model: nn.Module) -> dict[str, nn.Module]:
        """The layers of `model`, a whole denoiser, that are quantised, by their paths.

        Raises InputError for a pattern of `skip` that matches nothing, and for layers that groups do not divide.
        """
        names = [name for name, _ in model.named_modules() if name]
        for pattern in self.skip:
            if not any(path_matches(pattern, name) for name in names):
                raise InputError(f"{self.key}.skip: {pattern!r} matches no module of the student; e.g. 'up_blocks.2'")
        found = {name: layer for name, layer in layers_of_blocks(model) if not inside(name, self.skip)}
        if not found:
            raise InputError(f"{self.key}.skip={list(self.skip)} leaves no layer of the student to be quantised")
        size = self.grid.group_size
        odd = {name: layer.weight.shape[1] for name, layer in found.items() if size and layer.weight.shape[1] % size}
        if odd:
            name, channels = next(iter(odd.items()))
            raise InputError(
                f"{self.key}.group_size={size} does not divide the {channels} input channels of {name} ({len(odd)} layers);"
                f" use {math.gcd(*(layer.weight.shape[1] for layer in found.values()))}, or name them in skip"
            )
        return found

    def apply(self, model: nn.Module) -> nn.Module:
        """Let the layers of `model` compute with quantised weights from now on; returns it."""
        for layer in self.layers(model).values() if self else ():
            layer.__class__ = KINDS[type(layer)]
            layer.grid, layer.activations = self.grid, bool(self.activations)
        return model


def layers_of_blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers and convolutions inside the lists of a denoiser's blocks, by name.

    Those of separate channels are left out: they have no channels that could share a scale, and few weights.
    """
    for name, module in model.named_modules():
        known = type(module) in (*KINDS, *KINDS.values()) and getattr(module, "groups", 1) == 1
        if known and any(part.isdigit() for part in name.split(".")):
            yield name, module


def inside(name: str, patterns: Collection[str]) -> bool:
    """Whether the module `name` or one around it matches one of `patterns`."""
    parts = name.split(".")
    return any(path_matches(pattern, ".".join(parts[:end])) for pattern in patterns for end in range(1, len(parts) + 1))


def quantized_layers(model: nn.Module) -> Mapping[str, nn.Module]:
    """The layers that `Quantization.apply` has changed and `bake` has not, by name."""
    return {name: each for name, each in model.named_modules() if isinstance(each, tuple(KINDS.values())) and each.grid}


@torch.no_grad()
def bake(model: nn.Module) -> nn.Module:
    """Put the quantised values in the place of the full weights, for good; returns `model`, which computes what it did.

    It is a plain model again, but for layers whose inputs are quantised as well.
    """
    for layer in quantized_layers(model).values():
        layer.weight.copy_(layer.grid.quantize(layer.weight))
        layer.grid = None
        if not layer.activations:
            layer.__class__ = type(layer).__base__
    return model
