"""Gradient checkpointing of all blocks of a denoiser, or of chosen ones (Chen et al., 2016, arXiv:1604.06174)."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from diffdistill.errors import InputError
from diffdistill.students.cut import build, config_key, path_matches
from diffdistill.students.denoisers.rules import rules_of

Choice = bool | Sequence[str]  # all blocks, none, or those whose path, or that of a module around them, fits a pattern


def recompute(denoiser: nn.Module, choice: Choice, contexts: Callable[[], tuple] = noop_context_fn) -> nn.Module:
    """Recompute the activations of the chosen blocks of `denoiser` in backward; returns it.

    Which modules of a class can be recomputed, diffusers decides: ResNets and transformer layers. `contexts` returns those
    in which a module runs, and runs again.
    """
    if choice is False:
        return denoiser
    chosen = {module for name, module in denoiser.named_modules() if choice is True or is_chosen(name, choice)}

    def run(module, *inputs):
        if module not in chosen:
            return module(*inputs)
        return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)

    denoiser.enable_gradient_checkpointing(run)
    return denoiser


def is_chosen(name: str, patterns: Sequence[str]) -> bool:
    """Whether the module `name`, or one around it, fits one of `patterns`."""
    parts = name.split(".")
    return any(path_matches(pattern, ".".join(parts[: pattern.count(".") + 1])) for pattern in patterns)


def check_recomputed(denoiser_class: type, config: Mapping, choice: Choice) -> None:
    """Raise InputError for a choice that is neither a bool nor patterns, and for a pattern that chooses nothing."""
    key = "model.gradient_checkpointing"
    if isinstance(choice, bool):
        return
    if not isinstance(choice, (list, tuple)) or not choice or not all(isinstance(pattern, str) for pattern in choice):
        raise InputError(f"{key}={choice!r}: give True, False, or a list of blocks such as ['down_blocks.0', 'up_blocks.*']")
    names = recomputable(denoiser_class, config_key(denoiser_class, config))
    for pattern in choice:
        if not any(is_chosen(name, [pattern]) for name in names):
            blocks = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
            raise InputError(f"{key}: {pattern!r} chooses nothing that can be recomputed; blocks are {', '.join(blocks)}")


@functools.lru_cache(maxsize=4)
def recomputable(denoiser_class: type, config_json: str) -> tuple[str, ...]:
    """Paths of the modules that gradient checkpointing recomputes, seen in one forward pass on the meta device."""
    with torch.device("meta"):
        denoiser = build(denoiser_class, json.loads(config_json)).to("meta")
        names, seen = {module: name for name, module in denoiser.named_modules()}, []

        def note(module, *inputs):
            seen.append(names[module])
            return module(*inputs)

        denoiser.enable_gradient_checkpointing(note)
        denoiser(**rules_of(denoiser_class).inputs(denoiser.config, rules_of(denoiser_class).latent_size(denoiser.config)))
    return tuple(seen)
