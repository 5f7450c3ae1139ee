"""Pictures and captions in tar files, as img2dataset writes them (WebDataset), here or behind any address of fsspec."""

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import datasets
import fsspec

from diffdistill.errors import InputError, shortened

from .sources import first_line, local_path

PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff")
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
OWN = ("image", "text", "__key__", "__shard__", "__problem__")
LOOKED_AT = 1000  # samples of the first shard, which tell the columns


def is_sharded(source: str) -> bool:
    """Whether `source` names tar files: a file or pattern that ends in .tar, any address, or a folder that has some."""
    if source.endswith(".tar") or "://" in source:
        return True
    folder = local_path(source)
    return folder.is_dir() and next(folder.glob("*.tar"), None) is not None


def find_shards(source: str) -> list[str]:
    """The tar files of a folder or a pattern, in their order; {00000..00099}, * and ? are patterns.

    Raises InputError where there are none, or the place cannot be reached.
    """
    pattern = source if source.endswith(".tar") else f"{source.rstrip('/')}/*.tar"
    if "://" not in pattern:
        pattern = str(Path(pattern).expanduser())
    found = []
    for one in expand(pattern):
        if not any(sign in one for sign in "*?["):
            found.append(one)
            continue
        try:
            system, path = fsspec.core.url_to_fs(one)
            found += [system.unstrip_protocol(shard) if "://" in one else shard for shard in system.glob(path)]
        except Exception as error:  # each file system has errors of its own
            raise InputError(f"{source}: cannot be listed: {shortened(first_line(error), 200)}") from error
    if not found:
        raise InputError(f"{source}: there are no .tar files")
    return found if "{" in source else sorted(found)


def expand(pattern: str) -> list[str]:
    """The names that a pattern with {first..last} stands for; the numbers have the digits of the first."""
    parts = RANGE.split(pattern)
    ranges = [
        [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
        for first, last in zip(parts[1::3], parts[2::3], strict=True)
    ]
    names = []
    for numbers in product(*ranges):
        filled = [text for pair in zip(parts[::3], numbers, strict=False) for text in pair]
        names.append("".join([*filled, parts[-1]]))
    return names


def short_name(shard: str) -> str:
    """What messages call a shard: its file name."""
    return shard.rpartition("/")[2]


@contextmanager
def opened(shard: str) -> Iterator[tarfile.TarFile]:
    """A shard, open for reading from its beginning. Raises InputError where it cannot be opened."""
    try:
        file = fsspec.open(shard, "rb").open()
    except Exception as error:  # each file system has errors of its own
        raise InputError(f"{shard}: the shard cannot be opened: {shortened(first_line(error), 200)}") from error
    with file:
        yield file


def read_samples(
    shard: str, wanted: Callable[[int], bool] | None = None, lazily: bool = False
) -> Iterator[tuple[int, dict]]:
    """The samples of a shard with their numbers: `__key__`, `__shard__`, `image`, `text` (or None), and what the .json says.

    Nothing is read of those whose numbers are not `wanted`. `image` is dict(path, bytes), or where it is read lazily
    dict(path, shard, offset, size). A sample of which something is wrong says so in `__problem__`; of a shard that is cut
    short the last one does.
    """
    with opened(shard) as file:
        number, sample, members = -1, None, 0
        try:
            archive = tarfile.open(fileobj=file, mode="r:" if file.seekable() else "r|")  # noqa: SIM115 (`file` is closed)
            for member in archive:
                archive.members = []  # which tarfile keeps, however many there are
                if not member.isfile():
                    continue
                key, kind = key_and_kind(member.name)
                members += 1
                if sample is None or sample["__key__"] != key:
                    if sample is not None and takes(number, wanted):
                        yield number, finished(sample)
                    number += 1
                    sample = {"__key__": key, "__shard__": shard, "image": None, "text": None, "__problem__": ""}
                if takes(number, wanted):
                    take(sample, kind, member, archive, lazily)
            trouble = trouble_at_end(archive, file)
        except (tarfile.TarError, OSError, EOFError) as error:
            trouble = first_line(error)
        if sample is not None and not trouble and takes(number, wanted):
            yield number, finished(sample)
        if trouble and takes(max(number, 0), wanted):  # the sample that it broke off in
            problem = f"the shard {short_name(shard)} is cut short behind {members:,} members ({trouble})"
            cut = {"__key__": short_name(shard), "__shard__": shard, "image": None, "text": None, "__problem__": problem}
            yield max(number, 0), cut


def takes(number: int, wanted: Callable[[int], bool] | None) -> bool:
    """Whether the sample of that number is `wanted`; None wants all."""
    return wanted is None or wanted(number)


def key_and_kind(name: str) -> tuple[str, str]:
    """The name of the sample that a member of a shard belongs to, and what of it the member is: "000017", "jpg"."""
    folder, _, file = name.rpartition("/")
    stem, _, kind = file.partition(".")
    return f"{folder}/{stem}".lstrip("/"), kind.lower()


def trouble_at_end(archive: tarfile.TarFile, file) -> str:
    """What is wrong with the end of a tar file; "" where it has the block of zeros that ends one."""
    if not file.seekable():
        return ""  # what is cut in the middle of a member is an error already
    file.seek(archive.offset)
    return "" if file.read(512) == bytes(512) else "it has no end"


def take(sample: dict, kind: str, member: tarfile.TarInfo, archive: tarfile.TarFile, lazily: bool) -> None:
    """Put a member of a shard into its sample."""
    if kind in PICTURES:
        path = f"{short_name(sample['__shard__'])}/{member.name}"
        if lazily:
            sample["image"] = dict(path=path, shard=sample["__shard__"], offset=member.offset_data, size=member.size)
        else:
            sample["image"] = dict(path=path, bytes=archive.extractfile(member).read())
    elif kind == "txt":
        sample["text"] = archive.extractfile(member).read().decode("utf-8", errors="replace")
    elif kind == "json":
        try:
            said = json.loads(archive.extractfile(member).read())
        except ValueError:
            said = None
        if isinstance(said, Mapping):
            sample.update({name: value for name, value in said.items() if name not in OWN})


def finished(sample: dict) -> dict:
    """The sample, which says what it lacks."""
    if sample["image"] is None:
        sample["__problem__"] = f"there is no picture of the name {sample['__key__']}"
    return sample


def read_member(value: Mapping) -> bytes:
    """The bytes of a picture that `read_samples` has found lazily. Raises ValueError where they cannot be had."""
    system, path = fsspec.core.url_to_fs(value["shard"])
    found = system.cat_file(path, start=value["offset"], end=value["offset"] + value["size"])
    if len(found) != value["size"]:
        raise ValueError(
            f"{value['shard']} gave {len(found):,} bytes for {value['size']:,}: a server that gives no parts of files can be"
            " streamed (type='CaptionStream'), or the shard was replaced"
        )
    return found


def columns_of(shard: str) -> datasets.Features:
    """The columns of shards, told from the first samples of one: values of .json that are numbers or text.

    Raises InputError where the shard has no sample.
    """
    kinds: dict[str, str] = {}
    has_text, usable, problem = False, False, "there are no samples in the shard"
    for number, sample in read_samples(shard, lazily=True):
        has_text |= sample["text"] is not None
        usable, problem = usable or not sample["__problem__"], sample["__problem__"]
        for name, value in sample.items():
            if name not in OWN:
                numeric = isinstance(value, int | float)
                kind = "string" if isinstance(value, str) else "float64" if numeric else kinds.get(name, "null")
                kinds[name] = "string" if {kind, kinds.get(name)} == {"string", "float64"} else kind
        if number + 1 >= LOOKED_AT:
            break
    if not usable:
        raise InputError(f"{shard}: {problem}")
    found = {name: datasets.Value("string" if kind == "null" else kind) for name, kind in kinds.items()}
    if has_text:
        found["text"] = datasets.Value("string")
    return datasets.Features(found)


def fitted(sample: Mapping, columns: Mapping) -> dict:
    """The values of a sample in the kinds of `columns`; None for one of another kind."""
    row = {}
    for name, feature in columns.items():
        value = sample.get(name)
        if feature.dtype == "string":
            row[name] = value if isinstance(value, str) or value is None else json.dumps(value)
        else:
            row[name] = float(value) if isinstance(value, int | float) else None
    return row
