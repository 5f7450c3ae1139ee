"""Which family a pipeline on disk is of, and which of its parts is the denoiser."""

import diffusers
from torch import nn

from diffdistill.errors import InputError
from diffdistill.families.base import Family
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.registry import MODELS


def known_families() -> dict[str, type[Family]]:
    """Name of a diffusers pipeline class -> its family, of all families that are registered."""
    MODELS.import_from_location()
    found = [part for part in MODELS.module_dict.values() if isinstance(part, type) and issubclass(part, Family)]
    return {family.pipeline_class.__name__: family for family in found}


def find_family(checkpoint: Checkpoint) -> Family:
    """The family of the pipeline `checkpoint`, with its default options. Raises InputError for a pipeline of no family."""
    name, known = checkpoint.read_json("model_index.json").get("_class_name"), known_families()
    if name not in known:
        raise InputError(f"{checkpoint.key}={checkpoint.name}: a {name}; known pipelines: {', '.join(sorted(known))}")
    return known[name](checkpoint.name, key=checkpoint.key)


def denoiser_names() -> set[str]:
    """The names under which the pipelines of all families keep their denoisers."""
    return {family.denoiser_name for family in known_families().values()}


def denoiser_of(pipeline: diffusers.DiffusionPipeline) -> nn.Module:
    """The denoiser of any pipeline: the model of diffusers that does not decode, as a VAE does."""
    models = [part for part in pipeline.components.values() if isinstance(part, diffusers.ModelMixin)]
    return next(model for model in models if not hasattr(model, "decode"))
