"""Transforms of one item, from `dict(image=PIL.Image, caption=str)` to the tensors of a batch.

They keep what SDXL's micro-conditioning needs (Podell et al., 2023, arXiv:2307.01952, sec. 2.2): the size of the picture
before resizing, and where the crop that is really used lies. All sizes are (height, width) in pixels. Random choices come
from torch's global generator, so a training loop that seeds it replays them. `random` says whether a transform makes any,
which a cache of encoded data must know (`RandomFlip` and `CaptionDropout` apart, which it draws itself).
"""

import numpy as np
import torch
from PIL import Image, ImageOps

from diffdistill.errors import InputError
from diffdistill.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeCrop:
    """Shrink or enlarge the picture until it just covers `size`, then crop to `size`; nothing is ever padded.

    Adds to the item `original_size`, `resized_size` and `crop_top_left`, the last (top, left) in the resized picture.

    Args:
        size: side of a square, or (height, width).
        crop: "center", or "random" for a uniformly drawn position.
    """

    def __init__(self, size: int | tuple[int, int], crop: str = "center"):
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise InputError(f"ResizeCrop: size={size} must be positive")
        if crop not in ("center", "random"):
            raise InputError(f"ResizeCrop: crop={crop!r} is unknown; use 'center' or 'random'")
        self.height, self.width, self.random = height, width, crop == "random"

    def __call__(self, item: dict) -> dict:
        image = item["image"]
        scale = max(self.height / image.height, self.width / image.width)
        resized_height = max(self.height, round(image.height * scale))
        resized_width = max(self.width, round(image.width * scale))
        top = self._position(resized_height - self.height)
        left = self._position(resized_width - self.width)

        # `box` resizes only what the crop keeps: the same pixels, whatever the aspect ratio of the picture.
        across, down = image.width / resized_width, image.height / resized_height
        box = (left * across, top * down, (left + self.width) * across, (top + self.height) * down)
        cropped = image.resize((self.width, self.height), Image.Resampling.LANCZOS, box=box)
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
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1
        time_ids = (*item.get("original_size", target), *item.get("crop_top_left", (0, 0)), *target)
        packed = {
            "pixel_values": pixels.contiguous(),
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
