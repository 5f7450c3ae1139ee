"""The oracle: reads the attributes of the shapes world back from pictures, with no learned part.

Background: the palette colour nearest to most pixels of the border ring. Object colour: the most frequent other one.
Shape: the soft object mask against each shape drawn at the mask's own centroid and area; the best intersection over union
names the shape, if it exceeds 0.75. Radius and centre of that shape give size and position.
"""

from collections.abc import Sequence

import numpy as np

from diffdistill.shapes import world

MIN_IOU = 0.75
_OPEN = -2  # a position that is not stated
FIELDS = ("shape", "colour", "background", "size", "position")
_RING = np.ones((world.RESOLUTION, world.RESOLUTION), dtype=bool)
_RING[1:-1, 1:-1] = False


def read(images: np.ndarray, kinds: Sequence[str] = world.SHAPES) -> np.ndarray:
    """The attributes of `images` (B, 32, 32, 3) uint8: (B, 5) int in the order of FIELDS, -1 where nothing can be read.

    `kinds`: the shapes to choose from, those of all captions or `world.KINDS`, which has the star too.
    """
    pixels = np.asarray(images, dtype=np.float32).reshape(-1, world.RESOLUTION**2, 3)
    if not len(pixels):
        return np.empty((0, len(FIELDS)), dtype=int)
    # |p - c|^2 without |p|^2, which is the same for all colours
    nearest = ((world.RGB**2).sum(1) - 2 * pixels @ world.RGB.T).argmin(-1)
    votes = nearest[..., None] == np.arange(len(world.RGB))
    ring = votes[:, _RING.ravel()].sum(1)
    background = ring.argmax(1)
    counts = votes.sum(1)
    counts[np.arange(len(counts)), background] = 0
    colour = counts.argmax(1)
    found = counts.max(1) > 0

    mask = _soft_mask(pixels, votes, background, colour)
    iou, centre, radius = zip(*(_match(mask, kind) for kind in range(len(kinds))), strict=True)
    iou, centre, radius = np.stack(iou, 1), np.stack(centre, 1), np.stack(radius, 1)
    shape = iou.argmax(1)
    rows = np.arange(len(shape))
    size = (radius[rows, shape] > np.mean(world.RADIUS)).astype(int)
    position = ((centre[rows, shape][:, None] - world.ANCHORS) ** 2).sum(-1).argmin(1)

    answer = np.stack([shape, colour, background, size, position], 1)
    answer[~found, 1] = -1
    unread = ~found | (iou.max(1) <= MIN_IOU)
    answer[np.ix_(unread, [0, 3, 4])] = -1
    return answer


def _soft_mask(pixels: np.ndarray, votes: np.ndarray, background: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Where each pixel lies between the picture's own background (0) and object colour (1): (B, 32, 32)."""
    rows = np.arange(len(pixels))

    def mean_of(voted: np.ndarray) -> np.ndarray:
        return np.einsum("bn,bnc->bc", voted.astype(np.float32), pixels) / np.maximum(voted.sum(1), 1)[:, None]

    start = mean_of(votes[rows, :, background])
    way = world.RGB[colour] - start  # the palette, so that a blurred object never gets whole
    along = np.einsum("bnc,bc->bn", pixels - start[:, None], way) / np.maximum((way**2).sum(1), 1e-6)[:, None]
    return np.clip(along, 0, 1).reshape(-1, world.RESOLUTION, world.RESOLUTION)


def _match(mask: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intersection over union of B masks with a shape of their centroid and area; its centre (B, 2) and radius (B,)."""
    scale = world.CANVAS / world.RESOLUTION
    at = (np.arange(world.RESOLUTION, dtype=np.float32) + 0.5) * scale
    area = np.maximum(mask.sum((1, 2)), 1e-6)
    radius = np.sqrt(area * scale**2 / world.AREA[kind])
    centre = np.stack([(mask.sum(1) * at).sum(1) / area, (mask.sum(2) * at).sum(1) / area], 1)
    centre[:, 1] -= world.CENTROID[kind] * radius
    template = world.coverage(np.full(len(mask), kind), centre, radius)
    iou = np.minimum(mask, template).sum((1, 2)) / np.maximum(np.maximum(mask, template).sum((1, 2)), 1e-6)
    return iou, centre, radius


def judge(images: np.ndarray, captions: list[str], kinds: Sequence[str] = world.SHAPES) -> dict[str, np.ndarray]:
    """Whether each picture shows what its caption states: bool (B,) for every field and for "all" of them.

    Where a caption leaves the position open, any position is right. Raises InputError for a caption of another world.
    """
    answer = read(images, kinds)
    stated = [[_OPEN if value is None else value for value in world.parse(caption)] for caption in captions]
    stated = np.array(stated, dtype=int).reshape(-1, len(FIELDS))
    right = (answer == stated) | (stated == _OPEN)
    return dict(zip(FIELDS, right.T, strict=True), all=right.all(1))
