"""The Inception-v3 of FID, KID and Inception Score: the TensorFlow graph of 2015-12-05, with 1008 classes.

Its weights are torch-fidelity's file, which pytorch-fid's equals but for the name. What the graph does differently from the
paper (Szegedy et al., 2016, arXiv:1512.00567) is part of the scores: average pooling leaves its padding out of the mean, and
the last block pools by the maximum.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299
CLASSES = 1008
# A unit of a branch: output channels, kernel (height, width), stride. A list of units is a fork, whose ends are joined.
Unit = tuple[int, tuple[int, int], int]


def unit(channels: int, height: int = 1, width: int | None = None, stride: int = 1) -> Unit:
    """A unit of a branch, (channels, kernel (height, width), stride), with a square kernel where `width` is None."""
    return channels, (height, width or height), stride


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, ReLU. It keeps the size, or with `stride` 2 (or not `padded`) pads nothing."""

    def __init__(self, inputs: int, channels: int, kernel: tuple[int, int], stride: int = 1, padded: bool = True):
        super().__init__()
        padding = tuple(side // 2 for side in kernel) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, joined by channel.

    A branch called `branch_pool` starts from the `pool` of the input; without one, the halved maximum joins as it is. The
    units of a branch are named by their number, those of a fork by a letter too.
    """

    def __init__(self, inputs: int, branches: Mapping[str, list[Unit | list[Unit]]], pool: str = "average"):
        super().__init__()
        self.pool, self.branches = pool, {}
        for branch, units in branches.items():
            channels, names = inputs, []
            for number, part in enumerate(units, 1):
                fork = part if isinstance(part, list) else [part]
                ends = [f"_{number}" if len(units) > 1 else ""] if len(fork) == 1 else [f"_{number}{end}" for end in "ab"]
                names.append([branch + end for end in ends])
                for end, (width, kernel, stride) in zip(ends, fork, strict=True):
                    self.add_module(branch + end, ConvUnit(channels, width, kernel, stride))
                channels = sum(width for width, _, _ in fork)
            self.branches[branch] = names

    def pooled(self, x: Tensor) -> Tensor:
        """`x` (B, C, H, W) pooled for `branch_pool`, at the same size; without that branch its maximum, at half the size."""
        if "branch_pool" not in self.branches:
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "maximum":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch, names in self.branches.items():
            y = self.pooled(x) if branch == "branch_pool" else x
            for fork in names:
                y = torch.cat([getattr(self, name)(y) for name in fork], 1)
            outputs.append(y)
        return torch.cat(outputs if "branch_pool" in self.branches else [*outputs, self.pooled(x)], 1)


def narrow(inputs: int, pool: int) -> Mixed:
    """A block for maps of 35 x 35; `inputs` and `pool` are the channels of its input and of its pooling branch."""
    return Mixed(
        inputs,
        dict(
            branch1x1=[unit(64)],
            branch5x5=[unit(48), unit(64, 5)],
            branch3x3dbl=[unit(64), unit(96, 3), unit(96, 3)],
            branch_pool=[unit(pool)],
        ),
    )


def middle(c: int) -> Mixed:
    """A block for maps of 17 x 17, its kernels of 7 split into 1 x 7 and 7 x 1; `c` is the width between them."""
    return Mixed(
        768,
        dict(
            branch1x1=[unit(192)],
            branch7x7=[unit(c), unit(c, 1, 7), unit(192, 7, 1)],
            branch7x7dbl=[unit(c), unit(c, 7, 1), unit(c, 1, 7), unit(c, 7, 1), unit(192, 1, 7)],
            branch_pool=[unit(192)],
        ),
    )


def wide(inputs: int, pool: str) -> Mixed:
    """A block for maps of 8 x 8, with forks of 1 x 3 and 3 x 1; `pool` is "average" or "maximum"."""
    fork = [unit(384, 1, 3), unit(384, 3, 1)]
    return Mixed(
        inputs,
        dict(
            branch1x1=[unit(320)],
            branch3x3=[unit(384), fork],
            branch3x3dbl=[unit(448), unit(384, 3), fork],
            branch_pool=[unit(192)],
        ),
        pool,
    )


class Inception(nn.Module):
    """Pictures, uint8 (B, 3, H, W), to features (B, 2048) and logits without their bias (B, 1008), both fp32.

    Args:
        like: how pictures come to 299 x 299: as in "torch-fidelity" (TensorFlow 1's bilinear) or in "pytorch-fid" (torch's).
    """

    def __init__(self, like: str = "torch-fidelity"):
        super().__init__()
        self.like = like
        self.Conv2d_1a_3x3 = ConvUnit(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = ConvUnit(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = ConvUnit(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = ConvUnit(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvUnit(80, 192, (3, 3), padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = narrow(192, 32), narrow(256, 64), narrow(288, 64)
        reduced = dict(branch3x3=[unit(384, 3, stride=2)], branch3x3dbl=[unit(64), unit(96, 3), unit(96, 3, stride=2)])
        self.Mixed_6a = Mixed(288, reduced)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = middle(128), middle(160), middle(160), middle(192)
        self.Mixed_7a = Mixed(
            768,
            dict(
                branch3x3=[unit(192), unit(320, 3, stride=2)],
                branch7x7x3=[unit(192), unit(192, 1, 7), unit(192, 7, 1), unit(192, 3, stride=2)],
            ),
        )
        self.Mixed_7b, self.Mixed_7c = wide(1280, "average"), wide(2048, "maximum")
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(to_input(pictures, self.like))))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        features = x.mean((2, 3))
        return features, features @ self.fc.weight.T


def to_input(pictures: Tensor, like: str) -> Tensor:
    """uint8 (B, 3, H, W) to about [-1, 1], (B, 3, 299, 299)."""
    pixels = pictures.float()
    if like == "pytorch-fid":
        return F.interpolate(pixels / 255, (SIDE, SIDE), mode="bilinear") * 2 - 1
    down, across = (bilinear_matrix(size).to(pixels) for size in pixels.shape[-2:])
    return (down @ pixels @ across.T - 128) / 128


def bilinear_matrix(size: int) -> Tensor:
    """(299, size): linear interpolation as TensorFlow 1 did it, with output i at i * size / 299, not at pixels' centres."""
    places = torch.arange(SIDE) * torch.tensor(size / SIDE)
    left = places.long()
    matrix, rows = torch.zeros(SIDE, size), torch.arange(SIDE)
    matrix[rows, left] += 1 - (places - left)
    matrix[rows, (left + 1).clamp(max=size - 1)] += places - left
    return matrix
