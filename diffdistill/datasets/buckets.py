"""Aspect buckets: sizes of about as many pixels and different shapes, of which each picture takes the nearest.

So hardly anything of a picture is cropped, and a batch, which is of one bucket, costs as much as any other (Podell et al.,
2023, arXiv:2307.01952, sec. 2.3). All sizes are (height, width) in pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

from diffdistill.errors import InputError
from diffdistill.registry import TRANSFORMS

from .transforms import Crop

# Podell et al., 2023, appendix I: height -> widths. None has more pixels than 1024 x 1024.
SDXL = {
    512: (2048, 1984, 1920, 1856),
    576: (1792, 1728, 1664),
    640: (1600, 1536),
    704: (1472, 1408, 1344),
    768: (1344, 1280),
    832: (1216, 1152),
    896: (1152, 1088),
    960: (1088, 1024),
    1024: (1024, 960),
    1088: (960, 896),
    1152: (896, 832),
    1216: (832,),
    1280: (768,),
    1344: (768,),
    1408: (704,),
    1472: (704,),
    1536: (640,),
    1600: (640,),
    1664: (576,),
    1728: (576,),
    1792: (576,),
    1856: (512,),
    1920: (512,),
    1984: (512,),
    2048: (512,),
}
PUBLISHED = {"sdxl": [(height, width) for height, widths in SDXL.items() for width in widths]}


def make_buckets(pixels: int, step: int = 64, max_aspect: float = 4.0) -> list[tuple[int, int]]:
    """Sizes of at most `pixels` pixels whose sides are multiples of `step`, none longer than `max_aspect` times the other.

    Each height up to the square's has the widest width that fits, and each size its mirror image. Raises InputError where
    not even one fits.
    """
    low = []
    for height in range(step, math.isqrt(pixels) + 1, step):
        width = pixels // height // step * step
        if width <= max_aspect * height:
            low.append((height, width))
    if not low:
        raise InputError(f"BucketCrop: no bucket of {pixels} pixels has sides that are multiples of step={step}; lower step")
    return list(dict.fromkeys([*low, *((width, height) for height, width in reversed(low))]))


@TRANSFORMS.register_module()
class BucketCrop(Crop):
    """Crop each picture to the bucket whose aspect ratio is nearest to its own, so that the least is lost: see `Crop`.

    An item that has a `target_size` already, because its batch is of that bucket, is cropped to it.

    Args:
        size: side of the square whose number of pixels no bucket exceeds.
        pixels: that number itself, instead of `size`.
        step: of the sides, which are multiples of it.
        max_aspect: the longer side of a bucket is at most so many times the shorter.
        buckets: instead of all that, a list of (height, width), or "sdxl" for the 40 that SDXL was trained on.
        crop: "center", or "random" for a uniformly drawn position.
    """

    def __init__(
        self,
        size: int | None = None,
        pixels: int | None = None,
        step: int = 64,
        max_aspect: float = 4.0,
        buckets: str | Sequence[tuple[int, int]] | None = None,
        crop: str = "center",
    ):
        if sum(each is not None for each in (size, pixels, buckets)) != 1:
            raise InputError("BucketCrop: give one of size, pixels and buckets, e.g. size=1024 or buckets='sdxl'")
        if isinstance(buckets, str) and buckets not in PUBLISHED:
            raise InputError(f"BucketCrop: buckets={buckets!r} is unknown; use 'sdxl', or a list of (height, width)")
        for name, value in dict(size=size, pixels=pixels, step=step, max_aspect=max_aspect).items():
            if value is not None and value < 1:
                raise InputError(f"BucketCrop: {name}={value} must be at least 1")
        if buckets is None:
            found = make_buckets(pixels or size**2, step, max_aspect)
        else:
            found = PUBLISHED[buckets] if isinstance(buckets, str) else list(map(tuple, buckets))
        if not found:
            raise InputError("BucketCrop: buckets=[] is empty; list some as (height, width)")
        super().__init__(found, crop)
        shapes = np.log([height / width for height, width in self.sizes])
        order = np.argsort(shapes, kind="stable")
        # A picture takes the bucket to the left or right of the middle of two neighbours; equal shapes are one.
        self._sorted = np.array(self.sizes)[order]
        self._middles = (shapes[order][1:] + shapes[order][:-1]) / 2

    def sizes_after(self, sizes: np.ndarray) -> np.ndarray:
        """The bucket (N, 2) of each of the upright pictures of `sizes` (N, 2); none may be 0."""
        return self._sorted[np.searchsorted(self._middles, np.log(sizes[:, 0] / sizes[:, 1]))]

    def size_of(self, item: dict) -> tuple[int, int]:
        image = item["image"]
        return item.get("target_size") or tuple(self.sizes_after(np.array([[image.height, image.width]]))[0].tolist())


def kept_share(sizes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The share (N,) of each picture of `sizes` (N, 2) that a `ResizeCrop` to `targets` (N, 2) or (2,) keeps."""
    shapes = (sizes[..., 0] / sizes[..., 1]) / (targets[..., 0] / targets[..., 1])
    return np.minimum(shapes, 1 / shapes)
