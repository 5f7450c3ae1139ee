"""Where a pipeline's files are: a folder, a hub name, or a pipeline of this package (`diffdistill::sdxl_shapes`)."""

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import diffusers
import transformers
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from diffdistill.errors import InputError, warn_once
from diffdistill.families.architectures import known_architecture
from diffdistill.families.packed import without_packing
from diffdistill.families.single_file import SUFFIX, SingleFile, is_single_file
from diffdistill.files import check_no_pickle, is_hub_name, read_json

ASSETS = Path(__file__).parent.parent / "assets"
PACKAGED = "diffdistill::"
PATIENCE = 10  # seconds that the hub has for an answer
LIBRARIES = ("diffusers", "transformers")


class Checkpoint:
    """A pipeline (or one of its models) on disk or on the hub, and the config key that names it.

    Raises InputError, naming `key`, for a folder that does not exist or is not a pipeline, and for files that are missing,
    cut short, or out of reach.

    A pipeline may be a single file in the original layout, too: `single`. Its tokenizers, and the configs that do not follow
    from it, are those of a pipeline of its kind: `config`, or the one that the file tells of.
    """

    def __init__(self, name: str, key: str, config: str | None = None):
        self.key, self.name, self.config = key, str(name), config
        if self.name.startswith(PACKAGED):
            self.path = str(ASSETS / self.name.removeprefix(PACKAGED))
            if not Path(self.path).is_dir():
                raise InputError(
                    f"{key}={self.name}: no such pipeline in the package; it has {', '.join(packaged_pipelines())}"
                )
        else:
            self.path = str(Path(self.name).expanduser())
        self.architecture = None if self.is_folder else known_architecture(self.name)
        self.single = SingleFile(self.path, f"{key}={self.name}") if is_single_file(self.path) else None
        if config and not self.single:
            raise InputError(f"{self.config_key}={config} is for a single file, and {key}={name} is none; leave it out")

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this disk, as pipelines of this package are; else it is a hub name."""
        return Path(self.path).is_dir()

    @property
    def config_key(self) -> str:
        """The key of the config that says which pipeline a single file takes its small files from."""
        return "--config" if "." not in self.key else f"{self.key.rpartition('.')[0]}.config"

    @cached_property
    def like(self) -> "Checkpoint":
        """A pipeline of the kind of a single file, for its small files."""
        told = self.single.origin
        # A path in a stranger's file is none of this machine.
        found = self.config or (told if told and (is_hub_name(told) or told.startswith(PACKAGED)) else None)
        if found is None:
            raise InputError(
                f"{self.key}={self.name}: a single file that does not tell which pipeline it is like; set {self.config_key}"
                " to the folder or hub name of one, for its configs and tokenizers (those of SD 2.x say what it predicts)"
            )
        return Checkpoint(found, self.config_key)

    def at(self, folder: str | Path) -> "Checkpoint":
        """The same checkpoint where it was downloaded to; errors go on naming it as the config does."""
        found = copy.copy(self)
        found.path = str(folder)
        return found

    def read_json(self, file: str) -> dict:
        """The JSON file at `file`, relative to the checkpoint; of a model's config, without how its weights are packed."""
        if self.architecture and file in self.architecture:
            return dict(self.architecture[file])
        if self.single:
            return self._read_of_single(file)
        content = read_json(self.find_file(file), f"{self.key}={self.name}: {file}")
        if not content:
            raise InputError(f"{self.key}={self.name}: the folder has no {file}; is it a whole diffusers pipeline?")
        if file == "model_index.json":
            check_no_code(content, f"{self.key}={self.name}: {file}")
        return without_packing(content)

    def _read_of_single(self, file: str) -> dict:
        """A config file of a single file."""
        if content := self.single.configs.get(file):
            if file == "model_index.json":
                check_no_code(content, f"{self.key}={self.name}: {file} in its metadata")
            return content
        content = self.like.read_json(file)
        if file == "unet/config.json":
            return self.single.denoiser_config(diffusers.UNet2DConditionModel, content, self.like.name)
        return self.single.scheduler_config(content) if file.startswith("scheduler/") else content

    def find_file(self, file: str) -> Path:
        """Where `file`, relative to the checkpoint, is on disk; of a hub repository it is downloaded."""
        return Path(self.path, file) if self.is_folder else Path(self._download(file))

    def _download(self, file: str) -> str:
        if Path(self.path).is_file():
            raise InputError(
                f"{self.key}={self.name}: a single file that is no *{SUFFIX}; needed is such a file, or a folder in the"
                " format of diffusers"
            )
        if not is_hub_name(self.path):
            raise InputError(f"{self.key}={self.name}: no such folder")
        try:
            self._ask_once(file)
            return hf_hub_download(self.path, file)
        except LocalEntryNotFoundError:
            raise InputError(
                f"{self.key}={self.name}: no such folder, and {file} cannot be fetched from the hub (no connection?);"
                f" where there is one, run `hf download {self.name} --local-dir FOLDER`, then set {self.key}=FOLDER"
            ) from None
        except EntryNotFoundError:
            raise InputError(f"{self.key}={self.name}: the hub's repository has no {file}") from None
        except (HfHubHTTPError, HFValidationError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{self.key}={self.name}: no folder, and no hub repository in reach ({reason})") from None

    def _ask_once(self, file: str) -> None:
        """Where the hub does not answer, leave it to the cache: a download would ask six times, a minute each."""
        try:
            get_hf_file_metadata(hf_hub_url(self.path, file), timeout=PATIENCE)
        except (HfHubHTTPError, HFValidationError):
            raise
        except Exception as error:  # the HTTP libraries under the hub client have no error class in common
            if not constants.HF_HUB_OFFLINE:
                warn_once(f"the Hugging Face Hub does not answer ({type(error).__name__}); going on with what is cached")
            constants.HF_HUB_OFFLINE = True

    def check_components(self, names: list[str], variant: str | None = None) -> None:
        """Check that every model in `names` is there whole, before any is loaded. Hub names are left to the download."""
        if self.single:
            self.single.check(["unet" if name == "" else name for name in names])
        for name in names if self.is_folder else ():
            folder = Path(self.path, name)
            check_weights(folder, f"{self.key}={self.name}")
            files = [path.name for path in (*folder.glob("*.safetensors"), *folder.glob("*.bin"))]
            if variant is None and all(".fp16." in file or "fp16-" in file for file in files):
                advice = f"set {self.key.removesuffix('checkpoint')}variant='fp16'"
                advice = (
                    advice if self.key.endswith(("teacher.checkpoint", "base.checkpoint")) else "save it without a variant"
                )
                raise InputError(f"{self.key}={self.name}: {name}/ has weights of the variant fp16 alone; {advice}")

    def check_tokenizers(self, names: list[str]) -> None:
        """Check that every tokenizer in `names` is there whole; transformers would make up what is missing."""
        if self.single:
            self.like.check_tokenizers(names)
        for name in names if self.is_folder else ():
            for files in (("tokenizer.json", "vocab.json"), ("tokenizer_config.json",)):
                if not any(Path(self.path, name, file).exists() for file in files):
                    raise InputError(f"{self.key}={self.name}: {name}/{files[0]} is missing; download it again")

    def load(self, loader, **options):
        """What `loader(path, **options)` returns; errors of files become InputErrors of one line."""
        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()
        try:
            return loader(self.path, **options)
        except (OSError, ValueError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.key}={self.name}: cannot be loaded: {reason[:400]}") from error


def check_no_code(index: Mapping, where: str) -> None:
    """Raise InputError for a `model_index.json` that names anything but classes of diffusers and transformers."""
    name = index.get("_class_name")
    parts = [(part, entry[0]) for part, entry in index.items() if isinstance(entry, list) and entry and entry[0]]
    foreign = [
        part for part, library in parts if library not in LIBRARIES and not hasattr(diffusers.pipelines, str(library))
    ]
    if not isinstance(name, str) or foreign:
        raise InputError(
            f"{where} names code of its own for {', '.join(foreign) or 'the pipeline'}, which is not run; needed is a"
            " pipeline of diffusers"
        )


def shard_names(index: Path, where: str) -> set[str]:
    """The files that a model's index names. Raises InputError for one that is no plain name in its own folder."""
    names = read_json(index, where).get("weight_map")
    names = set(names.values()) if isinstance(names, dict) else {None}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{where} is damaged: {name!r} is no name of a file beside it; download it again")
    return names


def packaged_pipelines() -> list[str]:
    """Names of the pipelines that ship with the package, as configs write them."""
    return sorted(PACKAGED + folder.name for folder in ASSETS.iterdir() if (folder / "model_index.json").exists())


def check_weights(folder: Path, where: str) -> None:
    """Raise InputError unless `folder` holds a model's config and its weights, none of them cut short."""
    if not read_json(folder / "config.json", f"{where}: {folder.name}/config.json"):
        raise InputError(f"{where}: {folder.name}/config.json is missing; is the folder a whole diffusers pipeline?")
    shards = list(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        shards += [folder / shard for shard in shard_names(index, f"{where}: {folder.name}/{index.name}")]
    if not shards:
        for pickled in folder.glob("*.bin"):
            check_no_pickle(pickled, f"{where}: {folder.name}/")
            return
        for graph in (*folder.glob("*.onnx"), *folder.glob("openvino_*.xml")):
            raise InputError(
                f"{where}: {folder.name}/ holds {graph.name}, a graph for a runtime, and no weights; `sample` and `mim test`"
                " draw with it, anything else needs the folder in the format of diffusers"
            )
        raise InputError(f"{where}: {folder.name}/ has no weights (*.safetensors); download it again")
    for shard in shards:
        if not shard.exists():
            raise InputError(f"{where}: {folder.name}/{shard.name} is missing; download it again")
        check_tensors(shard, where)


def check_tensors(file: Path, where: str) -> None:
    """Raise InputError unless `file` is of safetensors, and as long as its header says. No tensor is read."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError:
        raise InputError(f"{where}: {file.parent.name}/{file.name} is cut short or damaged; get it again") from None
