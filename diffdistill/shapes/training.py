"""The loop that makes the frozen parts."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Log = Callable[[int, float], None]  # called with a step, from 1, and its loss


def minimise(
    loss: Callable[[int], Tensor], parameters: Iterable[nn.Parameter], steps: int, lr: float, log: Log | None
) -> None:
    """Minimise `loss(step)` over `parameters` by AdamW, with a short warm-up and a cosine decay to zero."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    warm_up = max(1, steps // 50)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (1 + math.cos(math.pi * step / steps)) / 2)
    )
    for step in range(1, steps + 1):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()
        schedule.step()
        if log:
            log(step, value.item())


def freeze(module: nn.Module) -> nn.Module:
    """Put `module` into eval mode and without gradients; returns it."""
    return module.requires_grad_(False).eval()
