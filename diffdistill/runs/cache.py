"""Making a cache: the data set of a config, encoded once by the encoders of its pipeline, a shard at a time."""

import copy
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import DataLoader

from diffdistill.config.cache import (
    WHERE,
    bytes_of_caption,
    bytes_of_picture,
    cache_key,
    check_cacheable_run,
    check_captions,
    check_room,
    check_same,
    copies,
    identities,
)
from diffdistill.config.check import check_data, check_model
from diffdistill.config.parts import check_parts
from diffdistill.datasets.cache import BAD, CAPTIONS, INDEX, LAYOUT, PICTURES, ROWS, TEXTS, Cache, Texts, shard_file
from diffdistill.datasets.skipping import too_many
from diffdistill.errors import InputError
from diffdistill.files import check_folder, describe_disk_error, read_json, write_text_whole
from diffdistill.models.plan import DTYPES
from diffdistill.runs.encoding import Encoder, Rows, write_shard
from diffdistill.runs.folder import held
from diffdistill.runs.progress import counting, noting

SHARD = 256  # rows or captions: what a kill costs at most, and a few hundred MB at 1024 pixels
KINDS = (PICTURES, CAPTIONS)


class CacheMaker:
    """Makes the cache of `config` in `folder`, or goes on with one; `make` does the share of one of `ranks` processes.

    Args:
        shard: rows (and captions) in a file.
        batch: pictures and captions that are encoded at once; by default the batch size of the config.
        dtype: what numbers are kept in; by default as the encoders compute them.

    Raises:
        InputError: the config's data cannot be cached; `folder` is of something else; the disk is too small.
    """

    def __init__(
        self, config: Config, folder: str, shard: int | None = None, batch: int | None = None, dtype: str | None = None
    ):
        for option, value in (("--shard-size", shard), ("--batch-size", batch)):
            if value is not None and value < 1:
                raise InputError(f"{option}={value}: give 1 or more")
        if dtype is not None and dtype not in DTYPES:
            raise InputError(f"--dtype={dtype}: expected one of {', '.join(DTYPES)}")
        config = copy.deepcopy(config)
        config.data_cache = None  # which this may be
        check_parts(config)
        self.config, self.plan = config, check_model(config.model)
        self.dataset = check_cacheable_run(config, self.plan)
        check_data(config, self.plan)
        self.folder, self.name = Path(folder).expanduser(), config.filename or "CONFIG"
        check_folder(folder, "OUT")
        wanted = dict(shard=shard, batch=batch, stored=dtype)
        if found := self.found():
            self.layout, index = found, read_json(self.folder / INDEX)
            check_same(found["key"], self.key(found["key"], index.get("stamps")), f"OUT={folder}", self.name)
            for file, size in ((self.folder / name, size) for name, size in index.get("files", {}).items()):
                if file.is_file() and file.stat().st_size != size:
                    file.unlink()  # which is made again
            for name, value in wanted.items():
                if value not in (None, found[name]):
                    raise InputError(f"OUT={folder} was begun with {name}={found[name]}, not {value}; leave the option out")
        else:
            own = (*KINDS, TEXTS)  # of a cache that was hardly begun
            if self.folder.is_dir() and any(path.name[0] != "." and path.name not in own for path in self.folder.iterdir()):
                raise InputError(f"OUT={folder} is no cache and not empty; choose another folder")
            usual = dict(shard=SHARD, batch=config.train_dataloader.get("batch_size", 1), stored=None)
            self.layout = {name: usual[name] if value is None else value for name, value in wanted.items()}
            self.layout |= dict(key=self.key(), rows=len(self.dataset), copies=copies(config))
            self.layout["source"] = str(getattr(self.dataset, "source", config.train_dataloader.dataset.type))

    def key(self, known: dict | None = None, stamps: dict | None = None) -> dict:
        """The key of the cache as the config wants it."""
        return cache_key(self.config, self.plan, self.dataset, known, stamps)

    def found(self) -> dict:
        """The layout of a cache that is in the folder; {} where there is none."""
        return read_json(self.folder / LAYOUT)

    def count(self, kind: str) -> int:
        """How many rows, or captions, there are in all."""
        return self.layout["rows"] if kind == PICTURES else self.layout["captions"]

    def shards(self, kind: str) -> Iterable[tuple[int, Path, int]]:
        """Number, file and length of all shards of that `kind`."""
        size, count = self.layout["shard"], self.count(kind)
        for number, start in enumerate(range(0, count, size)):
            yield number, shard_file(self.folder, kind, number), min(size, count - start)

    def done(self, kind: str) -> int:
        """How many rows or captions are in shards that are finished, by whichever process."""
        return sum(length for _, file, length in self.shards(kind) if file.is_file())

    def make(self, rank: int = 0, ranks: int = 1) -> Cache | None:
        """Make the shards of this rank; the first one then waits for the others, finishes the cache and returns it."""
        for kind in KINDS:
            (self.folder / kind).mkdir(parents=True, exist_ok=True)
        try:
            with held(self.folder / f".lock_{rank}", f"OUT={self.folder}", "writes there"):
                self.begin() if rank == 0 else self.wait(lambda: "captions" in self.found())
                self.layout = self.found()
                self.encode(rank, ranks)
                files = [file for kind in KINDS for _, file, _ in self.shards(kind)]
                self.wait(lambda: all(file.is_file() for file in files) if rank == 0 else True)
                if rank == 0 and not self.is_whole():
                    self.finish()
        except torch.OutOfMemoryError as error:
            raise InputError(f"out of memory with --batch-size={self.layout['batch']}: lower it") from error
        except OSError as error:
            if trouble := describe_disk_error(error):
                raise InputError(f"{trouble}; what is finished stays, and the same command goes on with it") from error
            raise
        where = f"OUT={self.folder}"
        return check_captions(Cache(self.folder, "OUT", self.name), self.plan, where, self.name) if rank == 0 else None

    def is_whole(self) -> bool:
        """Whether the index is there, with all its files."""
        files = read_json(self.folder / INDEX).get("files")
        return bool(files) and all((self.folder / name).is_file() for name in files)

    def wait(self, ready) -> None:
        """Wait for what other processes write, by its files: that takes longer than a collective operation may."""
        while not ready():
            time.sleep(0.2)

    def begin(self) -> None:
        """Write down which captions there are, and what the cache is made of, after a look at the disk."""
        if "captions" in self.layout:
            return
        tensors, several = Texts.pack(self.dataset.captions(), self.plan.method.captions)
        self.layout |= dict(captions=len(tensors["digests"]), several=several)
        check_room(self.folder, self.bytes())
        write_shard(self.folder / TEXTS, tensors, {})
        write_text_whole(self.folder / LAYOUT, json.dumps(self.layout, indent=2) + "\n")

    def bytes(self) -> int:
        """About how many bytes the cache has in the end."""
        stored = self.layout["stored"]
        width = DTYPES[stored].itemsize if stored else None
        each = bytes_of_picture(self.config, self.plan, width)
        return self.layout["rows"] * each + self.layout["captions"] * bytes_of_caption(self.plan, width)

    def encode(self, rank: int, ranks: int) -> None:
        """Make the shards of this rank that are not there yet, with a bar on the first one."""
        own = {kind: [each for each in self.shards(kind) if each[0] % ranks == rank] for kind in KINDS}
        missing = {kind: [each for each in shards if not each[1].is_file()] for kind, shards in own.items()}
        if not any(missing.values()):
            return
        stored = self.layout["stored"] and DTYPES[self.layout["stored"]]
        trained = self.config.train_dataloader.get("batch_size", 1)
        encoder = Encoder(self.plan, self.layout["batch"], trained, stored)
        rows = Rows(self.config.train_dataloader.dataset, WHERE)
        with counting(disable=rank > 0) as progress:
            for kind in KINDS:
                bar = progress.add_task(kind, total=self.count(kind), completed=self.done(kind), rate="")
                note = noting(progress, bar)
                write = self.write_pictures if kind == PICTURES else self.write_captions
                for _ in write(encoder, rows, missing[kind], note):
                    progress.update(bar, completed=max(progress.tasks[bar].completed, self.done(kind)))

    def write_pictures(self, encoder: Encoder, rows: Rows, missing: Sequence, note):
        """Write the picture shards `missing`, and yield after each."""
        size = self.layout["shard"]
        order = [number * size + at for number, _, length in missing for at in range(length)]
        workers = self.config.train_dataloader.get("num_workers", 0)
        loader = iter(DataLoader(rows, batch_size=None, sampler=order, num_workers=workers, collate_fn=Rows.as_it_is))
        for _, file, length in missing:
            yield encoder.write_pictures(file, loader, length, note)

    def write_captions(self, encoder: Encoder, rows: Rows, missing: Sequence, note):
        """Write the caption shards `missing`, and yield after each."""
        if not missing:
            return
        usable = (rows[row] for row in range(len(rows)))
        like = next(found for found in usable if isinstance(found, list))[0]
        texts = Texts(self.folder)
        for number, file, length in missing:
            start = number * self.layout["shard"]
            yield encoder.write_captions(file, [texts[at] for at in range(start, start + length)], like, note)

    def finish(self) -> None:
        """Write where every row is, and last the index, with the length of all files."""
        rows, skipped, dtypes, of_picture = dict(sizes=[], places=[]), [], {kind: {} for kind in KINDS}, set()
        files, places, formats = [TEXTS, ROWS], {}, {}
        for kind in KINDS:
            for _, file, _ in self.shards(kind):
                files.append(str(file.relative_to(self.folder)))
                with safe_open(file, framework="pt") as shard:
                    said = json.loads(shard.metadata()["about"])
                    dtypes[kind] |= said["dtypes"]
                    places |= said.get("places", {})
                    if kind == PICTURES:
                        skipped += said["skipped"]
                        formats |= said["formats"]
                        for name, parts in rows.items():
                            parts.append(shard.get_tensor(name))
                        of_picture |= {name for name in shard.keys() if "." not in name} - {*rows}  # noqa: SIM118
        whole = {name: torch.cat(parts) for name, parts in rows.items()}
        whole["sizes"] = self.sizes(whole["sizes"], whole["places"], skipped)
        write_shard(self.folder / ROWS, whole, {})
        index = dict(
            moments=list(dtypes[PICTURES]),
            of_picture=sorted(of_picture),
            embeddings=list(dtypes[CAPTIONS]),
            dtypes=dtypes[PICTURES] | dtypes[CAPTIONS],
            channels_last=formats,
            places=places,
            skipped=skipped,
            stamps={name: each.stamps for name, each in identities(self.plan).items()},
            files={name: (self.folder / name).stat().st_size for name in files},
        )
        write_text_whole(self.folder / INDEX, json.dumps(index, indent=2) + "\n")

    def sizes(self, found: Tensor, places: Tensor, skipped: Sequence[dict]) -> Tensor:
        """The sizes of all items: a bad row has that of the row that takes its place."""
        usable = np.flatnonzero(places.numpy() != BAD)
        if not len(usable):
            last = skipped[-1]
            raise too_many(self.layout["source"], len(found), len(found), 1, f"row {last['row']}: {last['reason']}")
        if hasattr(self.dataset, "item_sizes"):
            known = torch.from_numpy(np.asarray(self.dataset.item_sizes())).to(found)
            return torch.where((places == BAD)[:, None], known, found)
        following = np.searchsorted(usable, np.arange(len(found))) % len(usable)
        return found[torch.from_numpy(usable[following])]
