"""Transformers: their depths are plain numbers in their configs, one for each list of blocks."""

from collections.abc import Callable, Mapping

import torch

from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import REFUSED, DenoiserRules, Kept, register

PACKED_SIZE = 128  # the width of latents at the native resolution, where only the pipeline says it
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


def packed_size(config: Mapping) -> int:
    """The width of latents at the native resolution; the config of a denoiser of packed latents does not say it."""
    return PACKED_SIZE


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


def flux_inputs(config: Mapping, size: int | None = None) -> dict:
    """Example inputs: batch 1, 512 tokens of T5, square latents `size` (default 128) wide, of which 2 x 2 are a token."""
    tokens = ((size or PACKED_SIZE) // 2) ** 2
    inputs = dict(
        hidden_states=torch.zeros(1, tokens, config["in_channels"]),
        timestep=torch.zeros(1),
        encoder_hidden_states=torch.zeros(1, 512, config["joint_attention_dim"]),
        pooled_projections=torch.zeros(1, config["pooled_projection_dim"]),
        img_ids=torch.zeros(tokens, 3),
        txt_ids=torch.zeros(512, 3),
    )
    if config["guidance_embeds"]:
        inputs["guidance"] = torch.zeros(1)
    return inputs


def pixart_inputs(config: Mapping, size: int | None = None) -> dict:
    """Example inputs: batch 1, 300 tokens of T5, square latents `size` (default `sample_size`) wide."""
    size = size or config["sample_size"]
    return dict(
        hidden_states=torch.zeros(1, config["in_channels"], size, size),
        timestep=torch.zeros(1, dtype=torch.long),
        encoder_hidden_states=torch.zeros(1, 300, config["caption_channels"]),
        encoder_attention_mask=torch.ones(1, 300),
        added_cond_kwargs=dict(resolution=None, aspect_ratio=None),
    )


def sana_inputs(config: Mapping, size: int | None = None) -> dict:
    """Example inputs: batch 1, 300 tokens of Gemma, square latents `size` (default `sample_size`) wide."""
    size = size or config["sample_size"]
    return dict(
        hidden_states=torch.zeros(1, config["in_channels"], size, size),
        timestep=torch.zeros(1),
        encoder_hidden_states=torch.zeros(1, 300, config["caption_channels"]),
        encoder_attention_mask=torch.ones(1, 300),
    )


def qwen_inputs(config: Mapping, size: int | None = None) -> dict:
    """Example inputs: batch 1, 512 tokens of text, square latents `size` (default 128) wide, of which 2 x 2 are a token."""
    side = (size or PACKED_SIZE) // 2
    return dict(
        hidden_states=torch.zeros(1, side**2, config["in_channels"]),
        timestep=torch.zeros(1),
        encoder_hidden_states=torch.zeros(1, 512, config["joint_attention_dim"]),
        encoder_hidden_states_mask=torch.ones(1, 512),
        img_shapes=[[(1, side, side)]],
    )


register(
    "FluxTransformer2DModel",
    transformer_rules(
        {"transformer_blocks": "num_layers", "single_transformer_blocks": "num_single_layers"},
        flux_inputs,
        latent_size=packed_size,
        streams=both_streams("transformer_blocks", "single_transformer_blocks"),
        guidance_key="guidance_embeds",
    ),
)
register("PixArtTransformer2DModel", transformer_rules({"transformer_blocks": "num_layers"}, pixart_inputs))
register("SanaTransformer2DModel", transformer_rules({"transformer_blocks": "num_layers"}, sana_inputs))
register(
    "QwenImageTransformer2DModel",
    transformer_rules(
        {"transformer_blocks": "num_layers"},
        qwen_inputs,
        latent_size=packed_size,
        streams=both_streams("transformer_blocks"),
    ),
)

REFUSED["ChromaTransformer2DModel"] = (
    "its modulation is addressed by the number of each layer (3 x single + 12 x double + 2 vectors), so every kept layer"
    " would get that of another"
)
REFUSED["HiDreamImageTransformer2DModel"] = (
    "each of its layers takes the hidden states of one layer of its text encoder (llama_layers), by number"
)
