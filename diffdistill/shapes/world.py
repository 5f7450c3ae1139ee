"""The world of shapes: attributes, captions and 32 x 32 pictures, all deterministic in (seed, index).

Four shapes in eight colours on eight backgrounds (never their own colour), small or large, at five positions:
2,688 captions such as "a large red circle on a blue background at the left"; every other caption leaves the position open.
24 of the 224 (shape, colour, background) triples are held out of all training, to measure what generalises.
A fifth shape, the star, is in no training set at all: it is what a pipeline of this world can be personalised to.

Lengths are in units of a 64 x 64 picture, on which shapes are drawn; pictures are then halved.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import product
from typing import NamedTuple

import numpy as np

from diffdistill.errors import InputError, shortened

SHAPES = ("circle", "square", "triangle", "cross")
STAR = len(SHAPES)  # drawn and read, but in no caption or picture that the embedded pipelines were trained on
KINDS = (*SHAPES, "star")
PALETTE = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (45, 65, 220),
    "yellow": (240, 220, 50),
    "magenta": (215, 60, 205),
    "cyan": (60, 205, 225),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
COLOURS = tuple(PALETTE)
RGB = np.array(list(PALETTE.values()), dtype=np.float32)
SIZES = ("small", "large")
POSITIONS = {
    "in the centre": (0, 0),
    "at the left": (-1, 0),
    "at the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
}

RESOLUTION = 32
CANVAS = 64
RADIUS = (12.0, 18.0)  # of a small and a large shape, +- 1
OFFSET = 11.0  # of the shape's centre from the picture's, +- 2
COLOUR_JITTER = 12.0  # of 255, on every channel
ANCHORS = CANVAS / 2 + OFFSET * np.array(list(POSITIONS.values()), dtype=np.float32)

# One row a shape: its half width at distance 1 below or above the centre decides the area, in squared radii.
SQUARE, ARM = 0.9, 0.35
TIP, NOTCH = 1.1, 0.45 * 1.1  # radii of a star's five points and of the corners between them
AREA = np.array([np.pi, 4 * SQUARE**2, 2.0, 8 * ARM - 4 * ARM**2, 5 * TIP * NOTCH * np.sin(np.pi / 5)], dtype=np.float32)
CENTROID = np.array([0, 0, 1 / 3, 0, 0], dtype=np.float32)  # below the centre, in radii: a triangle is heavier at its base

TRIPLES = np.array([t for t in product(range(4), range(8), range(8)) if t[1] != t[2]])
# Three for each colour and each background, six for each shape.
HELD_OUT = frozenset(((c + k) % 4, c, (c + 2 * k + 1) % 8) for c, k in product(range(8), range(3)))
_IS_HELD_OUT = np.array([tuple(t) in HELD_OUT for t in TRIPLES.tolist()])
SPLITS = {"seen": TRIPLES[~_IS_HELD_OUT], "held_out": TRIPLES[_IS_HELD_OUT], "all": TRIPLES}


class Attributes(NamedTuple):
    """What a caption states, as indices into KINDS, COLOURS, COLOURS, SIZES and POSITIONS; position None is left open."""

    shape: int
    colour: int
    background: int
    size: int
    position: int | None

    @property
    def held_out(self) -> bool:
        """Whether the triple (shape, colour, background) is held out of all training."""
        return self[:3] in HELD_OUT

    def caption(self) -> str:
        """The caption, e.g. "a large red circle on a blue background at the left"."""
        thing = f"a {SIZES[self.size]} {COLOURS[self.colour]} {KINDS[self.shape]}"
        place = "" if self.position is None else f" {list(POSITIONS)[self.position]}"
        return f"{thing} on a {COLOURS[self.background]} background{place}"


ALL_CAPTIONS = {
    a.caption(): a for a in (Attributes(*t, s, p) for t, s, p in product(TRIPLES.tolist(), range(2), (None, 0, 1, 2, 3, 4)))
}
# Large stars alone: of a small one, the VAE, which has seen none, leaves a blob.
STAR_CAPTIONS = {
    a.caption(): a
    for a in (Attributes(STAR, c, b, 1, p) for c, b, p in product(range(8), range(8), (None, 0, 1, 2, 3, 4)) if c != b)
}


def parse(caption: str) -> Attributes:
    """The attributes that `caption` states. Raises InputError if the world has no such caption."""
    try:
        return ALL_CAPTIONS[caption] if caption in ALL_CAPTIONS else STAR_CAPTIONS[caption]
    except KeyError:
        raise InputError(
            f"caption {shortened(repr(caption))} is not of the shapes world, whose captions read like"
            f' "{next(iter(ALL_CAPTIONS))}"'
        ) from None


@dataclass
class Scenes:
    """B pictures before they are drawn: arrays whose first dimension is B."""

    shape: np.ndarray  # int, and so are the next four
    colour: np.ndarray
    background: np.ndarray
    size: np.ndarray
    position: np.ndarray
    said: np.ndarray  # bool: whether the caption states the position
    centre: np.ndarray  # (B, 2): x, y
    radius: np.ndarray
    rgb: np.ndarray  # (B, 2, 3), of 255: object, background

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, keep: slice) -> "Scenes":
        return Scenes(*(getattr(self, f.name)[keep] for f in fields(self)))

    def attributes(self) -> list[Attributes]:
        """What the captions of the B pictures state: a position that a caption leaves open is None."""
        columns = zip(self.shape, self.colour, self.background, self.size, self.position, self.said, strict=False)
        return [Attributes(*map(int, row[:4]), int(row[4]) if row[5] else None) for row in columns]

    def captions(self) -> list[str]:
        """The captions of the B pictures."""
        return [attributes.caption() for attributes in self.attributes()]


def sample(seed: int, indices: Iterable[int], split: str = "seen") -> Scenes:
    """The scenes that `seed` has at `indices`; `split` is "seen" (what training may use), "held_out" or "all"."""
    # Raw words, because their stream is fixed for all NumPy versions, which a Generator's is not.
    words = np.array([np.random.SeedSequence([seed, int(index)]).generate_state(16) for index in indices], dtype=np.uint32)
    u = words.reshape(-1, 16) / 2.0**32
    jitter = 2 * u - 1
    shape, colour, background = SPLITS[split][(u[:, 0] * len(SPLITS[split])).astype(int)].T
    size, position = (u[:, 1] * 2).astype(int), (u[:, 2] * 5).astype(int)
    return Scenes(
        shape, colour, background, size, position,
        said=u[:, 3] < 0.5,
        centre=(ANCHORS[position] + 2 * jitter[:, 4:6]).astype(np.float32),
        radius=(np.array(RADIUS)[size] + jitter[:, 6]).astype(np.float32),
        rgb=(RGB[np.stack([colour, background], 1)] + COLOUR_JITTER * jitter[:, 7:13].reshape(-1, 2, 3)).astype(np.float32),
    )  # fmt: skip


def stars(seed: int, indices: Iterable[int]) -> Scenes:
    """The scenes of `sample` (of all triples) with a large star each instead of their shape and size."""
    scenes = sample(seed, indices, "all")
    scenes.radius = (scenes.radius + np.array(RADIUS)[1] - np.array(RADIUS)[scenes.size]).astype(np.float32)
    scenes.shape[:], scenes.size[:] = STAR, 1
    return scenes


def distance(shape: int, x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Signed distance to the outline of a shape of radius `r` around (0, 0), negative inside.

    Exact near edges, a lower bound beyond corners, which is all that one pixel of anti-aliasing asks for.
    """
    name = KINDS[shape]
    if name == "circle":
        return np.sqrt(x * x + y * y) - r
    if name == "star":  # all ten edges are mirror images of one, from a tip to a notch
        turn = 2 * np.pi / 5
        angle = np.abs((np.arctan2(x, -y) + turn / 2) % turn - turn / 2)
        along, aside = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
        edge = NOTCH * np.cos(turn / 2) - TIP, NOTCH * np.sin(turn / 2)
        return ((along - TIP * r) * edge[1] - aside * edge[0]) / np.hypot(*edge)
    x = np.abs(x)
    if name == "triangle":  # base 2r, height 2r; y points down
        return np.maximum((2 * x - y - r) / np.float32(5**0.5), y - r)
    y = np.abs(y)
    if name == "square":
        return np.maximum(x, y) - SQUARE * r
    return np.minimum(np.maximum(x - r, y - ARM * r), np.maximum(x - ARM * r, y - r))


def coverage(shape: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """How much of every pixel B shapes cover, in [0, 1]: (B, 32, 32) float32."""
    pixels = np.arange(CANVAS, dtype=np.float32) + 0.5
    cover = np.empty((len(shape), RESOLUTION, RESOLUTION), dtype=np.float32)
    for kind in range(len(KINDS)):
        of_kind = np.flatnonzero(shape == kind)
        for rows in np.split(of_kind, range(64, len(of_kind), 64)):  # small enough for the cache
            x = pixels[None, None, :] - centre[rows, 0, None, None]
            y = pixels[None, :, None] - centre[rows, 1, None, None]
            fine = np.clip(0.5 - distance(kind, x, y, radius[rows, None, None]), 0, 1)
            cover[rows] = (fine[:, ::2, ::2] + fine[:, 1::2, ::2] + fine[:, ::2, 1::2] + fine[:, 1::2, 1::2]) / 4
    return cover


def draw(scenes: Scenes) -> np.ndarray:
    """The pictures of B scenes: (B, 32, 32, 3) uint8."""
    cover = coverage(scenes.shape, scenes.centre, scenes.radius)[..., None]
    thing, background = scenes.rgb[:, 0, None, None], scenes.rgb[:, 1, None, None]
    return np.rint(background + cover * (thing - background)).astype(np.uint8)
