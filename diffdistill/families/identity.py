"""Which encoders a checkpoint has: digests of their files, by which a cache of encoded data knows its own."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import without_pickles

READ = (".json", ".txt", ".model", ".safetensors", ".bin")  # suffixes of what a library reads of a model or tokenizer
BLOCK = 2**22

# File -> [size, time of its last change in ns], of files whose digest is known.
Stamps = dict[str, list[int]]


class Identity:
    """The files of some parts of a checkpoint: their SHA-256, and what tells cheaply that they are still the same.

    All bytes are read, so that another fine-tune of the same size is another one, whatever tensor it has changed. Reading
    gigabytes takes seconds; who has noted `stamps` beside a digest need not read files again that are as they were.
    """

    def __init__(self, files: Iterable[Path]):
        self.files = sorted(files)

    @property
    def stamps(self) -> Stamps:
        """What the file system says of every file."""
        found = ((str(file.resolve()), file.stat()) for file in self.files)
        return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found}

    def digest(self, known: Stamps | None = None, noted: str | None = None) -> str:
        """The digest of all files: `noted`, where they still have the stamps `known`, or else from their bytes."""
        if noted and known == self.stamps:
            return noted
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(f"{file.parent.name}/{file.name} {file.stat().st_size}\n".encode())
            with file.open("rb") as content:
                while block := content.read(BLOCK):
                    whole.update(block)
        return whole.hexdigest()[:16]


def files_of(checkpoint: Checkpoint, parts: Iterable[str]) -> list[Path]:
    """The files of the `parts` (folders; "" is the checkpoint itself) of a checkpoint that is a folder."""
    if checkpoint.single:
        tokenizers = [part for part in parts if part.startswith("tokenizer")]
        return [Path(checkpoint.path), *(files_of(checkpoint.like, tokenizers) if tokenizers else [])]
    folders = [Path(checkpoint.path, part) for part in parts]
    return [file for folder in folders for file in folder.iterdir() if file.is_file() and file.suffix in READ]


def vae_identity(family) -> Identity:
    """The identity of the VAE of `family`: the pipeline's, or that of its own."""
    if family.vae:
        return Identity(files_of(fetched(family, family.vae), [""]))
    return Identity(files_of(fetched(family, family.checkpoint), ["vae"]))


def text_identity(family) -> Identity:
    """The identity of text encoders and tokenizers of `family`."""
    checkpoint = fetched(family, family.checkpoint)
    index = family.checkpoint.read_json("model_index.json")
    tokenizers = [name for name, part in index.items() if name.startswith("tokenizer") and part != [None, None]]
    return Identity(files_of(checkpoint, [*family.text_encoders, *tokenizers]))


def fetched(family, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint where its files are; of the hub, what training would load is downloaded, but for the denoiser."""
    if checkpoint.single and not checkpoint.like.is_folder:
        options = dict.fromkeys((family.denoiser_name, *family.models)) | family.load_options
        checkpoint.like = checkpoint.like.at(checkpoint.like.load(family.pipeline_class.download, **options))
    if checkpoint.is_folder or checkpoint.single:
        return checkpoint
    if checkpoint is family.vae:
        checkpoint.find_file("diffusion_pytorch_model.safetensors")
        return checkpoint.at(checkpoint.find_file("config.json").parent)
    options = {family.denoiser_name: None, **family.load_options, **without_pickles()}
    return checkpoint.at(checkpoint.load(family.pipeline_class.download, variant=family.variant, **options))
