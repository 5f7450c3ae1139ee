"""Where a pipeline's files are: a folder, a hub name, or a pipeline of this package (`diffdistill::sdxl_shapes`)."""

import copy
import json
from pathlib import Path

import diffusers
import transformers
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from diffdistill.errors import InputError
from diffdistill.families.architectures import known_architecture
from diffdistill.files import is_hub_name

ASSETS = Path(__file__).parent.parent / "assets"
PACKAGED = "diffdistill::"


class Checkpoint:
    """A pipeline (or one of its models) on disk or on the hub, and the config key that names it.

    Raises InputError, naming `key`, for a folder that does not exist or is not a pipeline, and for files that are missing,
    cut short, or out of reach.
    """

    def __init__(self, name: str, key: str):
        self.key, self.name = key, str(name)
        if self.name.startswith(PACKAGED):
            self.path = str(ASSETS / self.name.removeprefix(PACKAGED))
            if not Path(self.path).is_dir():
                raise InputError(
                    f"{key}={self.name}: no such pipeline in the package; it has {', '.join(packaged_pipelines())}"
                )
        else:
            self.path = str(Path(self.name).expanduser())
        self.architecture = None if self.is_folder else known_architecture(self.name)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder on this disk, as pipelines of this package are; else it is a hub name."""
        return Path(self.path).is_dir()

    def at(self, folder: str | Path) -> "Checkpoint":
        """The same checkpoint where it was downloaded to; errors go on naming it as the config does."""
        found = copy.copy(self)
        found.path = str(folder)
        return found

    def read_json(self, file: str) -> dict:
        """The JSON file at `file`, relative to the checkpoint."""
        if self.architecture and file in self.architecture:
            return dict(self.architecture[file])
        try:
            return json.loads(self.find_file(file).read_text())
        except FileNotFoundError:
            raise InputError(
                f"{self.key}={self.name}: the folder has no {file}; is it a whole diffusers pipeline?"
            ) from None
        except json.JSONDecodeError as error:
            raise InputError(f"{self.key}={self.name}: {file} is not valid JSON ({error}); download it again") from None

    def find_file(self, file: str) -> Path:
        """Where `file`, relative to the checkpoint, is on disk; of a hub repository it is downloaded."""
        return Path(self.path, file) if self.is_folder else Path(self._download(file))

    def _download(self, file: str) -> str:
        if Path(self.path).is_file():
            raise InputError(
                f"{self.key}={self.name}: a single file; needed is a folder in the format of diffusers, which"
                " `from_single_file(FILE).save_pretrained(FOLDER)` of the pipeline's class makes"
            )
        if not is_hub_name(self.path):
            raise InputError(f"{self.key}={self.name}: no such folder")
        try:
            self._ask_once()
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

    def _ask_once(self) -> None:
        """Where the hub does not answer, leave it to the cache: every download would retry for half a minute."""
        try:
            HfApi().model_info(self.path, timeout=10)
        except (HfHubHTTPError, HFValidationError):
            raise
        except Exception:  # the HTTP libraries under the hub client have no error class in common
            constants.HF_HUB_OFFLINE = True

    def check_components(self, names: list[str], variant: str | None = None) -> None:
        """Check that every model in `names` is there whole, before any is loaded. Hub names are left to the download."""
        if not self.is_folder:
            return
        for name in names:
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


def packaged_pipelines() -> list[str]:
    """Names of the pipelines that ship with the package, as configs write them."""
    return sorted(PACKAGED + folder.name for folder in ASSETS.iterdir() if (folder / "model_index.json").exists())


def check_weights(folder: Path, where: str) -> None:
    """Raise InputError unless `folder` holds a model's config and its weights, none of them cut short."""
    if not (folder / "config.json").exists():
        raise InputError(f"{where}: {folder.name}/config.json is missing; is the folder a whole diffusers pipeline?")
    shards = list(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        shards += [folder / shard for shard in set(json.loads(index.read_text())["weight_map"].values())]
    if not shards and not list(folder.glob("*.bin")):
        raise InputError(f"{where}: {folder.name}/ has no weights (*.safetensors); download it again")
    for shard in shards:
        if not shard.exists():
            raise InputError(f"{where}: {folder.name}/{shard.name} is missing; download it again")
        try:
            with safe_open(shard, framework="pt"):
                pass
        except SafetensorError:
            raise InputError(f"{where}: {folder.name}/{shard.name} is cut short or damaged; download it again") from None
