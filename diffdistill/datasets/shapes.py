"""The shapes world as a training set and as a set of validation captions."""

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset

from diffdistill.errors import InputError
from diffdistill.registry import DATASETS, TRANSFORMS
from diffdistill.shapes import world
from diffdistill.shapes.pixels import to_tensor

CHUNK = 4096  # captions that are drawn at once


@DATASETS.register_module()
class ShapesDataset(Dataset):
    """Captioned pictures of seen triples, drawn when they are asked for; an item depends on (seed, index) alone.

    Items hold `pixel_values`, float32 (3, 32, 32) in [-1, 1]; `caption`; and `time_ids`, float32 (6,): original height and
    width, crop top and left, target height and width; and `sample`, "picture <index>".

    Args:
        seed: of the pictures; other seeds give other pictures.
        length: how many there are.
        pipeline: configs of transforms, applied in order.
    """

    def __init__(self, seed: int = 0, length: int = 65536, pipeline: list[dict] = ()):
        if length < 1:
            raise InputError(f"ShapesDataset: length={length} must be at least 1")
        self.seed = seed
        self.length = length
        self.pipeline = [TRANSFORMS.build(transform) for transform in pipeline]

    def __len__(self) -> int:
        return self.length

    def captions(self) -> Iterator[str]:
        """The caption of each item."""
        for start in range(0, self.length, CHUNK):
            yield from world.sample(self.seed, range(start, min(start + CHUNK, self.length))).captions()

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """The items at `indices`, drawn together, which is what a DataLoader asks for."""
        for index in indices:
            if not 0 <= index < self.length:
                raise IndexError(f"ShapesDataset: index {index} is not in [0, {self.length})")
        scenes = world.sample(self.seed, indices)
        pixels = to_tensor(world.draw(scenes))
        side = world.RESOLUTION
        time_ids = torch.tensor([side, side, 0, 0, side, side]).float()
        items = [
            {"pixel_values": picture, "caption": caption, "time_ids": time_ids.clone(), "sample": f"picture {index}"}
            for index, picture, caption in zip(indices, pixels, scenes.captions(), strict=True)
        ]
        for transform in self.pipeline:
            items = [transform(item) for item in items]
        return items


@DATASETS.register_module()
class ShapesCaptions(Dataset):
    """Captions to validate with: seen and held-out triples by turns, none twice while unused ones are left.

    Items hold `caption`; `seed`, an int of its own for the noise of each picture; and `seen`, a bool.

    Args:
        length: how many captions there are.
        seed: of the choice and of the noise seeds.
    """

    def __init__(self, length: int = 256, seed: int = 0):
        if length < 1:
            raise InputError(f"ShapesCaptions: length={length} must be at least 1")
        self.seed = seed
        halves = [_captions(seed, "seen", length - length // 2), _captions(seed, "held_out", length // 2)]
        self.items = [
            {"caption": halves[i % 2][i // 2], "seed": 1_000_003 * seed + i, "seen": i % 2 == 0} for i in range(length)
        ]

    @property
    def protocol(self) -> dict:
        """What tells these captions from others: `captions` and `seed`."""
        return dict(captions="shapes captions, half of them held out", seed=self.seed)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return dict(self.items[index])


@DATASETS.register_module()
class StarCaptions(ShapesCaptions):
    """Captions of `ShapesCaptions`, and after them captions of stars, in which a word of one's own stands for "star".

    So one validation says what a personalised pipeline has learnt, and what it has forgotten. Beside those of
    `ShapesCaptions`, items hold `shows`, the world's own caption of what the picture should show, and `star`, a bool. The
    stars' colours, backgrounds and positions are drawn at random; none of them is `seen`.

    Args:
        word: what `caption` has for "star"; "s", one of the tokenizer's tokens that no caption uses, is what the embedded
            text encoders can tell from the four shapes without losing count of the words behind it.
        stars: how many captions of stars.
        length, seed: of `ShapesCaptions`; the stars and their noise follow from `seed`, too.
    """

    def __init__(self, word: str = "s", stars: int = 128, length: int = 256, seed: int = 0):
        super().__init__(length, seed)
        if stars < 1:
            raise InputError(f"StarCaptions: stars={stars} must be at least 1")
        for item in self.items:
            item |= {"shows": item["caption"], "star": False}
        # Indices far from those of pictures that anybody trains on.
        for i, shows in enumerate(world.stars(seed, range(2**20, 2**20 + stars)).captions()):
            caption, noise = shows.replace(world.KINDS[world.STAR], word), 1_000_003 * seed + length + i
            self.items.append({"caption": caption, "seed": noise, "seen": False, "shows": shows, "star": True})


def _captions(seed: int, split: str, n: int) -> list[str]:
    """`n` captions of the split in random order; all of them come once before any comes twice, and so on."""
    every = [caption for caption, stated in world.ALL_CAPTIONS.items() if stated.held_out == (split == "held_out")]
    chosen: list[str] = []
    start = 0
    while len(chosen) < n:
        round_size = min(n - len(chosen), len(every))
        fresh: dict[str, None] = {}
        while len(fresh) < round_size:
            fresh |= dict.fromkeys(world.sample(seed, range(start, start + 1024), split).captions())
            start += 1024
        chosen += list(fresh)[:round_size]
    return chosen
