"""Checkpoints of sharded runs: folders to which every rank writes its pieces (torch.distributed.checkpoint).

A folder holds what a `.pth` does. `run.pth` is that dict with a `Piece` of a name in the place of every sharded tensor, and
the tensors themselves are in torch's format. So they are read by any number of ranks, and also whole, by one without shards.
"""

import pickle
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from mmengine.dist import is_main_process
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, StorageMeta
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, zeros

from diffdistill.errors import InputError

RUN = "run.pth"
SHARDED = "sharded tensor"  # the key by which an entry of `run.pth` that stands for one is known
# All that torch's metadata file is made of. It is a pickle, which torch reads without restriction.
MODULES = {
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch": {"Size", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},  # since Python 3.13
}
PIECES = re.compile(r"__\d+_\d+\.distcp")


def is_sharded_checkpoint(path: str | Path) -> bool:
    """Whether `path` is a folder that `save` has written."""
    return Path(path, RUN).is_file()


def save(checkpoint: dict, folder: Path) -> None:
    """Write `checkpoint`, of which every rank has its pieces, to `folder`; every rank must call it."""
    tensors: dict[str, DTensor] = {}

    def take_out(value, name: str):
        if not isinstance(value, DTensor):
            return value
        tensors[name] = value
        dims = [placement.dim for placement in value.placements if isinstance(placement, Shard)]
        return {SHARDED: name, "shape": list(value.shape), "dtype": value.dtype, "dim": dims[0] if dims else None}

    rest = walk(checkpoint, take_out)
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(folder))
    if is_main_process():
        torch.save(rest, folder / RUN)


def load(folder: str | Path, mesh: DeviceMesh | None = None) -> dict:
    """The checkpoint in `folder`, its tensors sharded over `mesh`, or whole, on the CPU, without one.

    Raises InputError where it is damaged.
    """
    tensors: dict[str, Tensor] = {}

    def put_in(value, _):
        if not (isinstance(value, dict) and SHARDED in value):
            return value
        shape, dtype, dim = value["shape"], value["dtype"], value["dim"]
        if mesh is None or dim is None:
            found = torch.zeros(shape, dtype=dtype)
        else:
            found = zeros(shape, dtype=dtype, device_mesh=mesh, placements=[Shard(dim)])
        return tensors.setdefault(value[SHARDED], found)

    checkpoint = walk(read_rest(folder), put_in)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*assuming the intent is to load in a single process")
        dcp.load(tensors, storage_reader=SafeReader(folder))
    return checkpoint


def shard(checkpoint: dict, model: nn.Module, parameters: Sequence[nn.Parameter]) -> dict:
    """The `checkpoint` of a run that was not sharded, its tensors sharded as those of `model`, and of its optimizer's
    `parameters`."""
    theirs = model.state_dict()
    theirs |= {f"module.{name}": tensor for name, tensor in theirs.items()}  # so an average calls them

    def like(value, other):
        if not isinstance(value, Tensor) or not isinstance(other, DTensor) or value.shape != other.shape:
            return value
        return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)

    for part in ("state_dict", "ema_state_dict"):
        for name, value in checkpoint.get(part, {}).items():
            checkpoint[part][name] = like(value, theirs.get(name))
    for number, state in checkpoint.get("optimizer", {}).get("state", {}).items():
        state.update({key: like(value, parameters[number]) for key, value in state.items()})
    return checkpoint


def load_on_meta(folder: str | Path) -> dict:
    """The checkpoint in `folder` with its sharded tensors on the meta device; the files that hold these must be there.

    Raises InputError where it is damaged.
    """
    sizes = SafeReader(folder).check()

    def name(value, _):
        if not (isinstance(value, dict) and SHARDED in value):
            return value
        if sizes.get(value[SHARDED]) != tuple(value["shape"]):
            raise InputError(f"{folder} is damaged: its files do not hold {value[SHARDED]}")
        return torch.empty(value["shape"], dtype=value["dtype"], device="meta")

    return walk(read_rest(folder), name)


def read_rest(folder: str | Path) -> dict:
    """What `run.pth` in `folder` holds, read as safely as torch can. Raises InputError where it is damaged."""
    try:
        return torch.load(Path(folder, RUN), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{Path(folder, RUN)} is no checkpoint of a run, or damaged ({type(error).__name__})") from None


def walk(value, change: Callable, name: str = ""):
    """`value`, its dicts and lists copied, with `change(entry, name)` in the place of every entry.

    `change` returns an entry that it leaves alone as it is, which is then walked through.
    """
    changed = change(value, name)
    if changed is not value:
        return changed
    if isinstance(value, dict):
        return {key: walk(entry, change, f"{name}/{key}") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [walk(entry, change, f"{name}/{number}") for number, entry in enumerate(value)]
    return value


class SafeReader(dcp.FileSystemReader):
    """A reader of torch's checkpoints that runs no code of theirs, and reads no file outside their folder."""

    def read_metadata(self, *args, **options) -> Metadata:
        """What the files hold. Raises InputError where that is no metadata of tensors, or would do something else."""
        file = Path(self.path, ".metadata")
        try:
            with file.open("rb") as opened:
                metadata = OnlyMetadata(opened).load()
            places = [info.relative_path for info in metadata.storage_data.values()]
            if any(isinstance(entry, BytesStorageMetadata) for entry in metadata.state_dict_metadata.values()):
                raise pickle.UnpicklingError("holds more than tensors")
            if not all(PIECES.fullmatch(place) for place in places):
                raise pickle.UnpicklingError("names files of its own")
        except (OSError, EOFError, AttributeError, TypeError, ValueError, IndexError, pickle.UnpicklingError) as error:
            raise InputError(f"{file} is no metadata of a checkpoint, or damaged ({error})") from None
        metadata.storage_meta = StorageMeta(load_id=self.load_id)
        return metadata

    def check(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the tensors. Raises InputError where a file is missing or too short."""
        metadata = self.read_metadata()
        for info in metadata.storage_data.values():
            file = Path(self.path, info.relative_path)
            if not file.is_file() or file.stat().st_size < info.offset + info.length:
                raise InputError(f"{file} is missing or cut off")
        return {name: tuple(entry.size) for name, entry in metadata.state_dict_metadata.items()}


class OnlyMetadata(pickle.Unpickler):
    """An unpickler that knows the classes of torch's metadata and nothing else."""

    def find_class(self, module: str, name: str):
        """The class `name` of `module`; raises UnpicklingError for all others."""
        if name not in MODULES.get(module, ()):
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return super().find_class(module, name)
