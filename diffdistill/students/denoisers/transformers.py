"""Transformers: their depths are plain numbers in their configs, one for each list of blocks."""

from collections.abc import Callable, Mapping

import torch

from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import REFUSED, DenoiserRules, Kept, register

HINT = "it can express any choice of whole blocks, at least one of every list"


def thin_depths(depths: Mapping[str, str]) -> Callable[[Mapping, Kept], dict]:
    """A `thin` that writes the number of kept blocks of each list of `depths` under its key of the config."""

    def thin(config: Mapping, kept: Kept) -> dict:
        for path in depths:
            if not kept[path]:
                raise InputError(f"student.keep: {path} keeps no block; keep at least one")
        return dict(config) | {key: len(kept[path]) for path, key in depths.items()}

    return thin


def transformer_rules(depths: Mapping[str, str], inputs: Callable[..., dict], **changes) -> DenoiserRules:
    """Rules of a transformer whose lists of blocks have the depths `depths`: path of the list -> key of the config."""
    patterns = tuple(f"{path}.*" for path in depths)
    rules = dict(
        thin=thin_depths(depths),
        inputs=inputs,
        hint=HINT,
        blocks=patterns,
        layers=patterns,
        parts={path: path for path in depths},
    )
    return DenoiserRules(**{**rules, **changes})


def both_streams(*paths: str) -> dict[str, tuple[str, ...]]:
    """`streams` of blocks that return the tokens of the text and then those of the picture."""
    return {f"{path}.*": ("text", "picture") for path in paths}


def sd3_config(config: Mapping, kept: Kept) -> dict:
    """Thin an `SD3Transformer2DModel` config: SD3.5's blocks with a second attention are numbered again."""
    blocks, last = kept["transformer_blocks"], config["num_layers"] - 1
    if not blocks or blocks[-1] != last:
        raise InputError(
            f"student.keep['transformer_blocks'] = {list(blocks)} lacks the last block, {last}: it alone returns no text"
            " (context_pre_only), so no other can take its place; keep it"
        )
    dual = [new for new, old in enumerate(blocks) if old in (config.get("dual_attention_layers") or ())]
    return dict(config, num_layers=len(blocks), dual_attention_layers=dual)


def sd3_inputs(config: Mapping, size: int | None = None) -> dict:
    """Example inputs: batch 1, 77 tokens of CLIP and 256 of T5, square latents `size` (default `sample_size`) wide."""
    size = size or config["sample_size"]
    return dict(
        hidden_states=torch.zeros(1, config["in_channels"], size, size),
        timestep=torch.zeros(1),
        encoder_hidden_states=torch.zeros(1, 77 + 256, config["joint_attention_dim"]),
        pooled_projections=torch.zeros(1, config["pooled_projection_dim"]),
    )


register(
    "SD3Transformer2DModel",
    transformer_rules(
        {"transformer_blocks": "num_layers"}, sd3_inputs, thin=sd3_config, streams=both_streams("transformer_blocks")
    ),
)

REFUSED["ChromaTransformer2DModel"] = (
    "its modulation is addressed by the number of each layer (3 x single + 12 x double + 2 vectors), so every kept layer"
    " would get that of another"
)
REFUSED["HiDreamImageTransformer2DModel"] = (
    "each of its layers takes the hidden states of one layer of its text encoder (llama_layers), by number"
)
