"""Leaving layers out of a denoiser without building another one: their input is handed on in the place of their output."""

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diffdistill.students.cut import path_matches
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import feature_of, streams_of


def layers_of(denoiser: nn.Module) -> list[str]:
    """The modules that a search scores one by one: ResNets, attentions, transformer layers, blocks and the mid block.

    A transformer layer that is alone in its attention is not counted beside it.
    """
    rules, found = rules_of(type(denoiser)), []
    for name, module in denoiser.named_modules():
        if module is None or not name:
            continue
        parent = denoiser.get_submodule(name.rpartition(".")[0])
        alone = name.endswith(".transformer_blocks.0") and len(parent) == 1
        counts = rules.place(name) is not None or any(path_matches(pattern, name) for pattern in rules.layers)
        if (counts and not alone) or name == "mid_block":
            found.append(name)
    return found


def inputs_of(module: nn.Module, args: tuple, kwargs: dict) -> list[Tensor]:
    """What a layer was called with that it would hand on: the hidden state of the picture, then that of the text."""
    found = list(inspect.signature(module.forward).bind(*args, **kwargs).arguments.items())
    text = [value for name, value in found if name == "encoder_hidden_states"]
    return [found[0][1], *text]


def handed_on(denoiser_class: type, name: str, module: nn.Module, args: tuple, kwargs: dict, output):
    """What `module` would return if it did nothing.

    A ResNet of an up stage gets the hidden state and, behind it, a skip connection: it hands on the first.
    """
    picture, *text = inputs_of(module, args, kwargs)
    if picture.ndim == 4:
        picture = picture[:, : feature_of(output).shape[1]]
    if isinstance(output, Tensor):
        return picture
    streams = streams_of(denoiser_class, name) or ("picture",)
    values = {"picture": picture, "text": text[0] if text else None}
    return tuple(values[stream] for stream in streams) + tuple(output[len(streams) :])


@contextmanager
def without(denoiser: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Inside the block the layers `names` of `denoiser` do nothing."""

    def hook(name):
        return lambda module, args, kwargs, output: handed_on(type(denoiser), name, module, args, kwargs, output)

    handles = [
        denoiser.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True, prepend=True) for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def removable(denoiser: nn.Module) -> list[str]:
    """Those of `layers_of` whose output has the shape of their hidden state, of a denoiser of `build_on_meta`.

    Others change the number of channels, so nothing can stand in for them.
    """
    found, last = set(), [None]

    def before(module, args):
        module.entering = last[0]

    def check(name):
        def after(module, args, kwargs, output):
            feature, hidden = feature_of(output, streams_of(type(denoiser), name)), inputs_of(module, args, kwargs)[0]
            entering = module.__dict__.pop("entering", None)
            if feature is None:
                return
            longer = hidden.ndim == 4 and hidden.shape[1] > feature.shape[1] and entering is not None
            if hidden.shape == feature.shape or (longer and entering[1] == feature.shape[1]):
                found.add(name)

        return after

    def note(module, args, output):
        if (feature := feature_of(output)) is not None and feature.ndim == 4:
            last[0] = tuple(feature.shape)

    names = layers_of(denoiser)
    handles = [module.register_forward_hook(note) for _, module in denoiser.named_modules()]
    for name in names:
        module = denoiser.get_submodule(name)
        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(check(name), with_kwargs=True))
    try:
        with torch.device("meta"), torch.no_grad():
            denoiser(**rules_of(type(denoiser)).inputs(denoiser.config))
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in names if name in found]
