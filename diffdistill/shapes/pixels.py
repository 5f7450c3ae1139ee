"""Pictures as bytes and as tensors."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(images: np.ndarray) -> Tensor:
    """(B, 32, 32, 3) uint8 to (B, 3, 32, 32) float32 in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_images(pixel_values: Tensor) -> np.ndarray:
    """The inverse of `to_tensor`; values outside [-1, 1] are clipped."""
    images = ((pixel_values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return images.permute(0, 2, 3, 1).contiguous().numpy()
