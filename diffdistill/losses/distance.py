"""How far a prediction is from another, for each sample of a batch, always in fp32."""

import torch.nn.functional as F
from torch import Tensor

from diffdistill.errors import check_range
from diffdistill.registry import MODELS


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in fp32: in half precision a difference of 300 is already infinite when squared."""
    return F.mse_loss(prediction.float(), target.float())


def squared_errors(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of each sample, shape (B,)."""
    return F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)


@MODELS.register_module()
class PseudoHuber:
    """Pseudo-Huber distance of each sample (Song & Dhariwal, 2023, arXiv:2310.14189, sec. 3.3).

    Quadratic below `c` and linear above it, so outliers pull less.

    Args:
        c: by default 0.00054 sqrt(d) for samples of d elements, as in the paper; 0.001 where `per_element`.
        per_element: the mean over elements of sqrt((a - b)^2 + c^2) - c, as diffusers' scripts for latent consistency
            train, instead of the paper's sqrt(|a - b|^2 + c^2) - c over the whole sample.
    """

    def __init__(self, c: float | None = None, per_element: bool = False):
        self.c = None if c is None else check_range("PseudoHuber: c", c, above=0)
        self.per_element = per_element

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distances (B,) in fp32."""
        squares = (prediction.float() - target.float()).square().flatten(1)
        if self.per_element:
            return huber(squares, self.c or 0.001).mean(1)
        return huber(squares.sum(1), self.c or 0.00054 * squares.shape[1] ** 0.5)


def huber(squares: Tensor, c: float) -> Tensor:
    """sqrt(squares + c^2) - c, written so that small squares are not lost in the difference."""
    return squares / ((squares + c**2).sqrt() + c)
