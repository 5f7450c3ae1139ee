"""A cache of encoded data on disk: moments of pictures, embeddings of captions, and which rows have which.

    layout.json                what it is made of, written first: its key and how it is cut into shards
    texts.safetensors          every caption, and which captions each row has
    pictures/<n>.safetensors   the rows n S to n S + S - 1: `<size>.mean` and `.std` (pictures, copies, C, h, w)
    captions/<n>.safetensors   the captions n S to n S + S - 1, each once, in the order of their digests
    rows.safetensors           of each row: its size in pixels, and its place among those of that size in its shard
    index.json                 written last: which makes the cache a whole one

Shards are safetensors and are mapped into memory: a tensor of bf16 is read as it is, one row of it costs the pages that it
lies on, and a header says how long the file must be. (Arrow has no bf16, and lists of lists for latents.)
"""

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffdistill.errors import InputError
from diffdistill.files import read_json

LAYOUT, INDEX, TEXTS, ROWS = "layout.json", "index.json", "texts.safetensors", "rows.safetensors"
PICTURES, CAPTIONS = "pictures", "captions"
OPEN = 4096  # shards that stay mapped
BAD = -1  # the place of a row that cannot be used, and the number of a caption that is no text


def shard_file(folder: Path, kind: str, number: int) -> Path:
    """The file of a shard of that `kind`, "pictures" or "captions"."""
    return folder / kind / f"{number:06d}.safetensors"


def text_digests(texts: Sequence[str]) -> np.ndarray:
    """Numbers (N,), uint64, that stand for the texts: 64 bits of BLAKE2."""
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)


def how_to_make(config: str, folder: Path | str) -> str:
    """The command that makes the cache of a config in `folder`, or finishes it."""
    return f"`mim run diffdistill cache {config} {folder}`"


@functools.lru_cache(OPEN)
def open_shard(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory. Raises InputError where it is damaged or has gone."""
    try:
        with safe_open(file, framework="pt") as content:
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is missing or damaged; the command that has made the cache makes it again") from error


class Texts:
    """The captions of the cache in `folder`, in the order of their digests, and which of them each row has."""

    def __init__(self, folder: Path):
        self.parts = {name: tensor.numpy() for name, tensor in open_shard(folder / TEXTS).items()}

    @staticmethod
    def pack(rows: Iterable[str | Sequence | None], more: Sequence[str]) -> tuple[dict[str, Tensor], bool]:
        """What the file holds, and whether rows have several captions.

        `rows` are the captions of each row, None where it has none; `more` are captions of no row. Numbers are places in
        the order of digests, `BAD` for what is no text.
        """
        known, numbers, starts, several = {"": 0}, [], [0], False
        for found in rows:
            several |= isinstance(found, list)
            texts = found if isinstance(found, list) else [found] * (found is not None)
            numbers += [known.setdefault(text, len(known)) if isinstance(text, str) else BAD for text in texts]
            starts.append(len(numbers))
        for text in more:
            known.setdefault(text, len(known))
        digests, encoded = text_digests(list(known)), [text.encode("utf-8", "surrogatepass") for text in known]
        order = np.argsort(digests)
        if (np.diff(digests[order].astype(object)) == 0).any():
            raise InputError("two captions have the same digest of 64 bits, which a cache cannot hold; change one of them")
        places = np.empty(len(order) + 1, dtype=np.int64)
        places[order], places[BAD] = np.arange(len(order)), BAD
        arrays = dict(
            digests=digests[order].view(np.int64),
            bytes=np.frombuffer(b"".join(encoded[at] for at in order), dtype=np.uint8),
            ends=np.cumsum([len(encoded[at]) for at in order]),
            numbers=places[numbers],
            starts=np.array(starts),
        )
        return {name: torch.tensor(array) for name, array in arrays.items()}, several

    def __len__(self) -> int:
        return len(self.parts["ends"])

    def __getitem__(self, number: int) -> str:
        ends = self.parts["ends"]
        content = self.parts["bytes"][ends[number - 1] if number else 0 : ends[number]]
        return content.tobytes().decode("utf-8", "surrogatepass")

    def of_row(self, row: int) -> np.ndarray:
        """The numbers of the captions of `row`; `BAD` stands for one that is no text."""
        start, end = self.parts["starts"][row : row + 2]
        return self.parts["numbers"][start:end]

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """The numbers of captions; `BAD` for one that is not there."""
        known, wanted = self.parts["digests"].view(np.uint64), text_digests(texts)
        places = np.searchsorted(known, wanted)
        return np.where(known[np.minimum(places, len(known) - 1)] == wanted, places, BAD)


class Cache:
    """A finished cache in `folder`, opened to be read.

    Raises:
        InputError: the folder is no cache, or an unfinished one, or a file of it is not as long as it was. `config` is
            what the message calls the config in the command that helps, `option` the key that holds the folder.
    """

    def __init__(self, folder: str | Path, option: str = "data_cache", config: str = "CONFIG"):
        self.folder = Path(folder).expanduser()
        where = f"{option}={folder}"
        if not (self.folder / LAYOUT).is_file():
            problem = "no such folder" if not self.folder.exists() else f"no cache (it has no {LAYOUT})"
            raise InputError(f"{where}: {problem}; {how_to_make(config, folder)} makes one")
        self.layout = read_json(self.folder / LAYOUT)
        self.index = read_json(self.folder / INDEX)
        if not self.index:
            raise InputError(f"{where} is an unfinished cache; {how_to_make(config, folder)} finishes it")
        for name, size in self.index["files"].items():
            file = self.folder / name
            if not file.is_file() or file.stat().st_size != size:
                problem = "cut short or changed" if file.is_file() else "missing"
                raise InputError(f"{where}: {name} is {problem}; {how_to_make(config, folder)} makes it again")
        self.key, self.shard = self.layout["key"], self.layout["shard"]
        self.dtypes = {name: getattr(torch, dtype) for name, dtype in self.index["dtypes"].items()}

    def __len__(self) -> int:
        return self.layout["rows"]

    @functools.cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """`sizes` (N, 2), the height and width in pixels, and `places` (N,), of all rows."""
        return {name: tensor.numpy() for name, tensor in open_shard(self.folder / ROWS).items()}

    @functools.cached_property
    def texts(self) -> Texts:
        """The captions, and which of them each row has."""
        return Texts(self.folder)

    @functools.cached_property
    def skipped(self) -> dict[int, dict]:
        """Rows that cannot be used -> their records, as lines of `skipped.jsonl` have them."""
        return {record["row"]: record for record in self.index["skipped"]}

    def describe(self) -> str:
        """What the cache holds, in one line."""
        pictures = f"{len(self):,} pictures" + (", each mirrored as well" if self.layout["copies"] > 1 else "")
        skipped = f"; {len(self.skipped)} rows cannot be used" if self.skipped else ""
        size = sum(self.index["files"].values()) / 1e9
        return f"{self.folder}: {pictures}, {len(self.texts):,} captions, {size:.3f} GB{skipped}"

    def item_sizes(self) -> np.ndarray:
        """Height and width (N, 2) of the picture that item i has, in pixels."""
        return self.rows["sizes"]

    def picture(self, row: int, mirrored: bool) -> dict[str, Tensor]:
        """`mean`, `std` where the VAE has one (C, h, w), and what describes the picture, of a `row` that can be used."""
        number, within = divmod(row, self.shard)
        shard, copy = open_shard(shard_file(self.folder, PICTURES, number)), int(mirrored)
        height, width = self.rows["sizes"][row]
        group, place = f"{height}x{width}.", int(self.rows["places"][row])
        found = {name: shard[group + name][place, copy] for name in self.index["moments"]}
        found = {name: tensor.to(self.dtypes[name]) for name, tensor in found.items()}
        return found | {name: shard[name][within, copy] for name in self.index["of_picture"]}

    def conditioning(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The embeddings of captions by their numbers: dotted names -> tensors of B rows, in the dtypes of the encoders."""
        found = []
        for number in numbers:
            shard, place = divmod(int(number), self.shard)
            found.append((open_shard(shard_file(self.folder, CAPTIONS, shard)), place))
        names = self.index["embeddings"]
        return {name: torch.stack([shard[name][at] for shard, at in found]).to(self.dtypes[name]) for name in names}
