"""Reading models and pipelines with all their weights, or not at all."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import diffusers
import torch
import transformers
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.packed import check_torchao, is_packed, unpack
from diffdistill.files import pickles_allowed, read_json

LIBRARIES = {library.__name__: library for library in (diffusers, transformers)}


def load_model(checkpoint: Checkpoint, model_class: type, exact: bool = False, **options) -> nn.Module:
    """The model of `checkpoint`, by `model_class.from_pretrained` with `options`.

    Weights that are quantised on disk become plain ones of the same values (`unpack`).

    Raises InputError where tensors are missing, which the libraries would start from random values, or where one is not
    finite; `exact` refuses tensors that are left over as well.
    """
    if checkpoint.single:
        return load_from_single(checkpoint, model_class, options["subfolder"])
    if is_packed(read_config(checkpoint, options)):
        check_torchao(f"{checkpoint.key}={checkpoint.name}: its weights are quantised, and reading them")
        options = dict(torch_dtype=torch.float32) | options
    with quiet():
        model, info = checkpoint.load(model_class.from_pretrained, output_loading_info=True, **without_pickles(), **options)
    part = f" in {options['subfolder']}/" if options.get("subfolder") else ""
    weights = f"{checkpoint.key}={checkpoint.name}: the weights of the {model_class.__name__}{part}"
    for problem, names in dict(missing=info["missing_keys"], **{"left over": info["unexpected_keys"]}).items():
        if names and (exact or problem == "missing"):
            raise InputError(
                f"{weights} are not those of its config.json: {len(names)} tensors are {problem}, such as {min(names)}"
            )
    if is_packed(model.config if isinstance(model, diffusers.ModelMixin) else {}):
        unpack(model, options.get("torch_dtype", torch.float32))
    check_finite(model, weights)
    return model


def load_from_single(checkpoint: Checkpoint, model_class: type, name: str) -> nn.Module:
    """The model `name` of a single file; see `load_model`."""
    model = checkpoint.single.load(name, model_class, checkpoint.read_json(f"{name}/config.json"))
    check_finite(model, f"{checkpoint.key}={checkpoint.name}: the weights of the {name}")
    return model


def check_finite(model: nn.Module, weights: str) -> None:
    """Raise InputError, which calls them `weights`, where a tensor of `model` is not finite."""
    damaged = [name for name, tensor in model.state_dict().items() if not is_finite(tensor)]
    if damaged:
        raise InputError(f"{weights} are damaged: {len(damaged)} tensors hold NaN or infinity, such as {min(damaged)}")


def read_config(checkpoint: Checkpoint, options: Mapping) -> dict:
    """The config of the model that `load_model` loads with `options`; {} where it is on the hub."""
    folder = Path(checkpoint.path, options.get("subfolder") or "")
    return read_json(folder / "config.json", f"{checkpoint.key}={checkpoint.name}: config.json")


def freeze(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Put `model` into eval mode, without gradients and with weights in `dtype`; returns it.

    (The `to` of diffusers' own models warns where it need not.)
    """
    return nn.Module.to(model.requires_grad_(False).eval(), dtype)


def is_finite(tensor: Tensor) -> bool:
    """Whether all elements of `tensor` are finite, told from its extremes: on the CPU `isfinite` takes 50 times as long."""
    tensor = getattr(tensor, "scale", tensor)  # of torchao's tensors, whose elements are whole numbers
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
    if checkpoint.single:
        return pipeline_from_single(checkpoint, dtype, given)
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


def pipeline_from_single(checkpoint: Checkpoint, dtype: torch.dtype | None, given: Mapping) -> diffusers.DiffusionPipeline:
    """The pipeline of a single file, with the tokenizers of the pipeline that it is like; see `load_pipeline`."""
    index, parts = checkpoint.read_json("model_index.json"), dict(given)
    for name, model_class in model_classes(index).items():
        if name not in parts:
            parts[name] = load_model(checkpoint, model_class, subfolder=name)
            freeze(parts[name], dtype or torch.float32)
    pipeline_class = getattr(diffusers, index["_class_name"])
    for name in inspect.signature(pipeline_class).parameters:
        entry = index.get(name)
        if name in parts:
            continue
        if name.startswith("tokenizer"):
            parts[name] = checkpoint.like.load(getattr(transformers, entry[1]).from_pretrained, subfolder=name)
        elif name == "scheduler":
            parts[name] = getattr(diffusers, entry[1]).from_config(checkpoint.read_json("scheduler/scheduler_config.json"))
        elif name in index:  # an option; or a safety checker and the like, which no such file has
            parts[name] = entry if not isinstance(entry, list) else None
    known = inspect.signature(pipeline_class).parameters
    if not parts.get("safety_checker") and "safety_checker" in known:
        parts |= dict(safety_checker=None, requires_safety_checker=False)
    return pipeline_class(**{name: part for name, part in parts.items() if name in known})


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
