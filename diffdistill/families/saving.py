"""Writing models and pipelines so that every version of transformers reads the same weights."""

import json
from pathlib import Path

import diffusers
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import nn

PREFIX = "text_model."  # of CLIP's text encoder in every published checkpoint
OUTSIDE = "text_projection."


def save_model(model: nn.Module, folder: Path) -> None:
    """`model.save_pretrained(folder)`, with a text encoder's tensors under the names of published checkpoints."""
    model.save_pretrained(folder)
    restore_names(folder)


def save_pipeline(pipeline: diffusers.DiffusionPipeline, folder: Path) -> None:
    """`pipeline.save_pretrained(folder)`, with the text encoders' tensors under the names of published checkpoints."""
    pipeline.save_pretrained(folder)
    for part in Path(folder).iterdir():
        restore_names(part)


def restore_names(folder: Path) -> None:
    """Put the prefix of its tensors' names back into a CLIP text encoder in `folder`; leave any other model as it is.

    From 5.6 on, transformers leaves the prefix out where the model was not loaded with it. It reads both, but older
    versions, and other programs, know the prefixed names alone: they would start the encoder from random values.
    """
    config = folder / "config.json"
    if not config.exists() or "CLIPTextModel" not in (json.loads(config.read_text()).get("architectures") or []):
        return
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata()
        tensors = load(file.read_bytes())  # not mapped from the file that is written over
        save_file({published_name(name): tensor for name, tensor in tensors.items()}, file, metadata)
    for file in folder.glob("*.safetensors.index.json"):
        index = json.loads(file.read_text())
        index["weight_map"] = {published_name(name): shard for name, shard in index["weight_map"].items()}
        file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def published_name(name: str) -> str:
    """The name of a CLIP text encoder's tensor in published checkpoints."""
    return name if name.startswith((PREFIX, OUTSIDE)) else PREFIX + name


def name_in(encoder: nn.Module, name: str) -> str:
    """The name in `encoder` itself, as this version of transformers builds it, of a tensor with or without the prefix."""
    return published_name(name) if hasattr(encoder, PREFIX.rstrip(".")) else name.removeprefix(PREFIX)
