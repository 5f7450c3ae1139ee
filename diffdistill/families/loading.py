"""Reading models and pipelines with all their weights, or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import diffusers
import torch
import transformers
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.files import pickles_allowed

LIBRARIES = {library.__name__: library for library in (diffusers, transformers)}


def load_model(checkpoint: Checkpoint, model_class: type, exact: bool = False, **options) -> nn.Module:
    """The model of `checkpoint`, by `model_class.from_pretrained` with `options`.

    Raises InputError where tensors are missing, which the libraries would start from random values, or where one is not
    finite; `exact` refuses tensors that are left over as well.
    """
    with quiet():
        model, info = checkpoint.load(model_class.from_pretrained, output_loading_info=True, **without_pickles(), **options)
    part = f" in {options['subfolder']}/" if options.get("subfolder") else ""
    weights = f"{checkpoint.key}={checkpoint.name}: the weights of the {model_class.__name__}{part}"
    for problem, names in dict(missing=info["missing_keys"], **{"left over": info["unexpected_keys"]}).items():
        if names and (exact or problem == "missing"):
            raise InputError(
                f"{weights} are not those of its config.json: {len(names)} tensors are {problem}, such as {min(names)}"
            )
    damaged = [name for name, tensor in model.state_dict().items() if not is_finite(tensor)]
    if damaged:
        raise InputError(f"{weights} are damaged: {len(damaged)} tensors hold NaN or infinity, such as {min(damaged)}")
    return model


def freeze(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Put `model` into eval mode, without gradients and with weights in `dtype`; returns it.

    (The `to` of diffusers' own models warns where it need not.)
    """
    return nn.Module.to(model.requires_grad_(False).eval(), dtype)


def is_finite(tensor: Tensor) -> bool:
    """Whether all elements of `tensor` are finite, told from its extremes: on the CPU `isfinite` takes 50 times as long."""
    return not tensor.is_floating_point() or not tensor.numel() or all(end.isfinite() for end in tensor.aminmax())


def load_pipeline(
    checkpoint: Checkpoint,
    pipeline_class: type = diffusers.DiffusionPipeline,
    variant: str | None = None,
    dtype: torch.dtype | None = None,
    **given,
) -> diffusers.DiffusionPipeline:
    """The pipeline of `checkpoint`, by `pipeline_class.from_pretrained`, every model of it loaded by `load_model`.

    They come in `dtype`, by default in that of the libraries. `given` are parts that take the place of the checkpoint's own,
    None for one that is left out, and other options.
    """
    if not checkpoint.is_folder:
        checkpoint = checkpoint.at(checkpoint.load(pipeline_class.download, variant=variant, **without_pickles(), **given))
    index = checkpoint.read_json("model_index.json")
    # diffusers wants to be told of parts that the pipeline was saved without, such as SD3's T5.
    given = {name: None for name, part in index.items() if part == [None, None]} | given
    options = {} if dtype is None else dict(torch_dtype=dtype)
    for name, model_class in model_classes(index).items():
        if name not in given:
            has_variant = variant and any(Path(checkpoint.path, name).glob(f"*.{variant}*"))
            files = variant if has_variant else None  # as the pipeline decides it, for each of its models
            given[name] = load_model(checkpoint, model_class, subfolder=name, variant=files, **options)
    return checkpoint.load(pipeline_class.from_pretrained, variant=variant, **without_pickles(), **given)


def without_pickles() -> dict:
    """What `from_pretrained` of a model or pipeline is told so that it reads no pickle, unless these are allowed."""
    return {} if pickles_allowed() else dict(use_safetensors=True)


def model_classes(index: Mapping) -> dict[str, type]:
    """Name -> class of the models in a pipeline's `model_index.json`."""
    parts = {name: entry for name, entry in index.items() if isinstance(entry, list) and entry[0] in LIBRARIES}
    found = {name: getattr(LIBRARIES[library], kind, None) for name, (library, kind) in parts.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, nn.Module)}


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the block, no library warns of missing tensors: `load_model` says it in one line."""
    with ExitStack() as stack:
        for logging in (diffusers.utils.logging, transformers.utils.logging):
            stack.callback(logging.set_verbosity, logging.get_verbosity())
            logging.set_verbosity_error()
        yield
