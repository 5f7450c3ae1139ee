"""What a training step must compute, and what the machine could compute at best."""

import math
import statistics

import torch
from torch import nn

from diffdistill.benchmarks.timing import seconds
from diffdistill.students.cut import build_on_meta
from diffdistill.students.features import pass_on_meta

SIDE = {"cuda": 8192, "cpu": 2048}  # of the square matrices: large enough for full speed, small enough for a second


def forward_flops(denoiser: nn.Module, latents: torch.Size) -> int:
    """FLOPs of one call for one sample of latents (B, C, H, W), attention included, counted on a square of the same area."""
    size = round(math.sqrt(latents[-2] * latents[-1]))
    return sum(pass_on_meta(build_on_meta(type(denoiser), denoiser.config), size)[1].values())


def model_flops(student: float, teacher: float, samples: dict[str, int]) -> float:
    """FLOPs that a training step must do, given those of one forward and how many `samples` went through.

    A student's backward costs twice its forward: one product for the inputs' gradients, one for the weights'. Recomputation
    under gradient checkpointing is not counted, nor are the VAE and the text encoders: they are no work of the denoisers.
    """
    return 3 * student * samples["student"] + student * samples["student_no_grad"] + teacher * samples["teacher"]


def matmul_ceiling(dtype: torch.dtype, device: str, repeats: int = 7) -> float:
    """FLOP/s of a large square matrix product in `dtype`: the median over `repeats` calls, after a first one."""
    side = SIDE[device]
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    times = [seconds(lambda: left @ right, device) for _ in range(repeats + 1)][1:]
    return 2 * side**3 / statistics.median(times)
