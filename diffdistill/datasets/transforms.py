"""Transforms of one item, from `dict(image=PIL.Image, caption=str)` to the tensors of a batch.

They keep what SDXL's micro-conditioning needs (Podell et al., 2023, arXiv:2307.01952, sec. 2.2): the size of the picture
before resizing, and where the crop that is really used lies. All sizes are (height, width) in pixels. Random choices come
from torch's global generator, so a training loop that seeds it replays them. `random` says whether a transform makes any,
which a cache of encoded data must know (`RandomFlip` and `CaptionDropout` apart, which it draws itself).
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps

from diffdistill.errors import InputError
from diffdistill.registry import TRANSFORMS


class Crop:
    """Shrink or enlarge the picture until it just covers one of `sizes`, then crop to it; nothing is ever padded.

    Adds to the item `original_size`, `resized_size` and `crop_top_left`, the last (top, left) in the resized picture.

    Args:
        sizes: all (height, width) that pictures are cropped to.
        crop: "center", or "random" for a uniformly drawn position.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], crop: str):
        for size in sizes:
            if len(size) != 2 or min(size) < 1:
                given = size[0] if len(set(size)) == 1 else size
                raise InputError(f"{type(self).__name__}: size={given} must be positive")
        if crop not in ("center", "random"):
            raise InputError(f"{type(self).__name__}: crop={crop!r} is unknown; use 'center' or 'random'")
        self.sizes, self.random = sizes, crop == "random"

    def size_of(self, item: dict) -> tuple[int, int]:
        """The size that the picture of `item` is cropped to."""
        raise NotImplementedError

    def sizes_after(self, sizes: np.ndarray) -> np.ndarray:
        """The sizes (N, 2) that upright pictures of `sizes` (N, 2) are cropped to."""
        raise NotImplementedError

    def __call__(self, item: dict) -> dict:
        image, (height, width) = item["image"], self.size_of(item)
        scale = max(height / image.height, width / image.width)
        resized_height = max(height, round(image.height * scale))
        resized_width = max(width, round(image.width * scale))
        top = self._position(resized_height - height)
        left = self._position(resized_width - width)

        # `box` resizes only what the crop keeps: the same pixels, whatever the aspect ratio of the picture.
        across, down = image.width / resized_width, image.height / resized_height
        box = (left * across, top * down, (left + width) * across, (top + height) * down)
        cropped = image.resize((width, height), Image.Resampling.LANCZOS, box=box)
        return {
            **item,
            "image": cropped,
            "original_size": (image.height, image.width),
            "resized_size": (resized_height, resized_width),
            "crop_top_left": (top, left),
        }

    def _position(self, slack: int) -> int:
        return int(torch.randint(slack + 1, ())) if self.random else slack // 2


@TRANSFORMS.register_module()
class ResizeCrop(Crop):
    """Crop every picture to `size`, the side of a square or (height, width): see `Crop`."""

    def __init__(self, size: int | tuple[int, int], crop: str = "center"):
        super().__init__([(size, size) if isinstance(size, int) else size], crop)

    def size_of(self, item: dict) -> tuple[int, int]:
        return self.sizes[0]

    def sizes_after(self, sizes: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.sizes[0], sizes.shape)


@TRANSFORMS.register_module()
class RandomFlip:
    """Mirror the picture left to right with probability `p`, and its crop with it."""

    def __init__(self, p: float = 0.5):
        self.p = _probability("RandomFlip", p)

    def __call__(self, item: dict) -> dict:
        return self.mirror(item) if self.draw() else item

    def draw(self) -> bool:
        """Whether to mirror the next picture."""
        return bool(torch.rand(()) < self.p)

    def mirror(self, item: dict) -> dict:
        """The item with its picture mirrored, and its crop with it."""
        item = {**item, "image": ImageOps.mirror(item["image"])}
        if "crop_top_left" in item:  # the crop now lies where it would, had the whole picture been mirrored
            top, left = item["crop_top_left"]
            item["crop_top_left"] = (top, item["resized_size"][1] - left - item["image"].width)
        return item


@TRANSFORMS.register_module()
class CaptionDropout:
    """Replace the caption by "" with probability `p`, which trains the unconditional half of classifier-free guidance
    (Ho & Salimans, 2022, arXiv:2207.12598)."""

    def __init__(self, p: float):
        self.p = _probability("CaptionDropout", p)

    def __call__(self, item: dict) -> dict:
        return {**item, "caption": ""} if torch.rand(()) < self.p else item


@TRANSFORMS.register_module()
class PackInputs:
    """The last transform: what a batch is made of, and nothing else.

    Returns `pixel_values`, float32 (3, height, width) in [-1, 1]; `caption`; `time_ids`, float32 (6,), in SDXL's order:
    original height and width, crop top and left, target height and width; and where the item has one its `weight`, a float32
    scalar, and the texts `sample` and `skipped` (see `CaptionedImages`). A picture that no `ResizeCrop` has seen counts as
    uncropped.
    """

    random = False

    def __call__(self, item: dict) -> dict:
        image = item["image"]
        target = (image.height, image.width)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)
        time_ids = (*item.get("original_size", target), *item.get("crop_top_left", (0, 0)), *target)
        packed = {
            "pixel_values": pixels,
            "caption": item["caption"],
            "time_ids": torch.tensor(time_ids, dtype=torch.float32),
        }
        if "weight" in item:
            packed["weight"] = torch.tensor(item["weight"], dtype=torch.float32)
        return packed | {name: item[name] for name in ("sample", "skipped") if name in item}


def _probability(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise InputError(f"{name}: p={p} is not a probability; use a number from 0 to 1")
    return p
