"""The shards of a cache: rows of a data set through its transforms and the VAE, captions through the text encoders."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.device import get_device
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from diffdistill.datasets.cache import BAD
from diffdistill.datasets.transforms import CaptionDropout, RandomFlip
from diffdistill.files import write_file_whole
from diffdistill.models.frozen import Frozen
from diffdistill.models.plan import Plan
from diffdistill.registry import DATASETS, build_part

TRIES = 100  # to read a row of which only some captions are text


class Rows(Dataset):
    """The rows of a data set of the config `section`, each as a list of its copies, or as the record of one that is bad.

    The copies are the row as it is and, where the pipeline mirrors some, mirrored. Nothing is drawn.
    """

    def __init__(self, section: Mapping, where: str):
        self.transforms = build_part(DATASETS, section, where).pipeline
        self.dataset = build_part(DATASETS, dict(section, pipeline=[]), where)
        if hasattr(self.dataset, "max_skipped"):  # here every bad row is listed, and a training refuses too many
            self.dataset.max_skipped, self.dataset.most_skipped = 1, len(self.dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> list[dict] | dict:
        for _ in range(TRIES):
            item = self.dataset[row]
            if not (record := first_record(item)) or not record["reason"].endswith("which is not text"):
                break
        return record or self.copies(item)

    @staticmethod
    def as_it_is(item: list[dict] | dict) -> list[dict] | dict:
        """What a loader makes of an item: nothing."""
        return item

    def copies(self, item: dict) -> list[dict]:
        """What the transforms make of an item, as it is and mirrored."""
        items = [item]
        for transform in self.transforms:
            if isinstance(transform, RandomFlip):
                items.append(transform.mirror(items[0]))
            elif not isinstance(transform, CaptionDropout):
                items = [transform(each) for each in items]
        return items


def first_record(item: Mapping) -> dict | None:
    """The record of the row that was asked for, where another item has taken its place."""
    lines = item.get("skipped") or ""
    return json.loads(lines.splitlines()[0]) if lines else None


def described(item: Mapping) -> dict[str, Tensor]:
    """The tensors of an item that describe its picture."""
    return {name: value for name, value in item.items() if isinstance(value, Tensor) and name != "pixel_values"}


class Encoder:
    """The frozen encoders of a plan's pipeline, which write shards.

    Args:
        batch: pictures or captions at once.
        trained: pictures of a batch of the training.
        stored: the dtype that floats are kept in; None keeps each as it is computed.
    """

    def __init__(self, plan: Plan, batch: int, trained: int, stored: torch.dtype | None):
        self.family, self.batch, self.trained, self.stored = plan.family, batch, trained, stored
        self.formats: dict[tuple[int, int], list[bool]] = {}
        self.device = torch.device(get_device())
        pipeline = self.family.load(plan.dtype)
        self.pipeline = Frozen(pipeline, quantized=bool(self.family.quantize)).to(self.device).pipeline

    def kept(self, tensor: Tensor) -> Tensor:
        """A tensor as a shard holds it."""
        tensor = tensor.detach().to("cpu", self.stored if tensor.is_floating_point() else None)
        return tensor.contiguous()

    def channels_last(self, picture: Tensor) -> list[bool]:
        """Whether the VAE returns latents with the channels last in memory: of one picture, of a batch of the training.

        Libraries choose that by the size of a batch. Noise like them is drawn in the order of their memory.
        """
        size = tuple(picture.shape[-2:])
        if size not in self.formats:
            batches = (picture.expand(count, *picture.shape) for count in (1, self.trained))
            means = [self.family.posterior(self.pipeline, batch)["mean"] + 0.0 for batch in batches]
            self.formats[size] = [
                mean.is_contiguous(memory_format=torch.channels_last) and not mean.is_contiguous() for mean in means
            ]
        return self.formats[size]

    def write_pictures(self, file: Path, read: Iterator[list[dict] | dict], count: int, note: Callable[[int], None]) -> None:
        """Write the shard of the next `count` rows that are `read`; `note` is told of every row that is done."""
        sizes, places = torch.zeros(count, 2, dtype=torch.int32), torch.full((count,), BAD, dtype=torch.int32)
        waiting: dict[tuple[int, int], list[list[dict]]] = {}
        found: dict[str, list[Tensor]] = {}
        about: dict[int, list[dict]] = {}
        skipped, totals, dtypes, formats = [], {}, {}, {}

        def encode(size: tuple[int, int]) -> None:
            items = waiting.pop(size)
            pictures = torch.stack([item["pixel_values"] for copies in items for item in copies]).to(self.device)
            for name, tensor in self.family.posterior(self.pipeline, pictures).items():
                dtypes[name] = str(tensor.dtype).removeprefix("torch.")
                rows = self.kept(tensor).unflatten(0, (len(items), -1))
                found.setdefault(f"{size[0]}x{size[1]}.{name}", []).append(rows)
                formats["x".join(map(str, rows.shape[-2:]))] = self.channels_last(pictures[0])
            note(len(items))

        for at in range(count):
            copies = next(read)
            if isinstance(copies, Mapping):
                skipped.append(copies)
                note(1)
                continue
            size = tuple(copies[0]["pixel_values"].shape[-2:])
            sizes[at], places[at] = torch.tensor(size), totals.get(size, 0)
            totals[size] = totals.get(size, 0) + 1
            about[at] = [described(copy) for copy in copies]
            waiting.setdefault(size, []).append(copies)
            if len(waiting[size]) == self.batch:
                encode(size)
        for size in list(waiting):
            encode(size)
        tensors = {name: torch.cat(parts) for name, parts in found.items()} | dict(sizes=sizes, places=places)
        write_shard(file, tensors | stacked(about, count), dict(skipped=skipped, dtypes=dtypes, formats=formats))

    def write_captions(self, file: Path, texts: Sequence[str], like: Mapping, note: Callable[[int], None]) -> None:
        """Write the shard of `texts`; `like` is an item, which says what else the family reads of a batch.

        What describes pictures in the conditioning is left out; the shard says by `places` where it belongs.
        """
        found: dict[str, list[Tensor]] = {}
        dtypes, places = {}, {}
        for start in range(0, len(texts), self.batch):
            captions = list(texts[start : start + self.batch])
            about = {name: value.expand(len(captions), *value.shape) for name, value in described(like).items()}
            about = {name: value.to(self.device) for name, value in about.items()}
            with torch.no_grad():
                condition = self.family.encode_captions(self.pipeline, dict(caption=captions, **about))
            for name, tensor in flat(condition).items():
                if (own := name.split(".")[-1]) in self.family.of_picture:
                    places[own] = name
                    continue
                dtypes[name] = str(tensor.dtype).removeprefix("torch.")
                found.setdefault(name, []).append(self.kept(tensor))
            note(len(captions))
        write_shard(file, {name: torch.cat(parts) for name, parts in found.items()}, dict(dtypes=dtypes, places=places))


def stacked(about: Mapping[int, list[dict]], count: int) -> dict[str, Tensor]:
    """What describes the pictures of a shard, (count, copies, ...) by name; zeros for bad rows."""
    if not about:
        return {}
    first = next(iter(about.values()))
    nothing = [{name: torch.zeros_like(value) for name, value in each.items()} for each in first]
    rows = [about.get(at, nothing) for at in range(count)]
    return {name: torch.stack([torch.stack([each[name] for each in row]) for row in rows]) for name in first[0]}


def flat(condition: Mapping, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a conditioning by their dotted names."""
    found = {}
    for name, value in condition.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


def write_shard(file: Path, tensors: Mapping[str, Tensor], about: Mapping) -> None:
    """Write a shard, whole or not at all, with JSON values beside its tensors."""
    metadata = dict(about=json.dumps(about))  # in one entry: safetensors puts several in no order
    own = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_file_whole(lambda partial: save_file(own, partial, metadata), file)
