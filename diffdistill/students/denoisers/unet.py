"""The UNet of Stable Diffusion 1.x, 2.x and XL: stages that go down and up again, of ResNets and attentions."""

from collections.abc import Mapping

import torch
from torch import nn

from diffdistill.errors import InputError
from diffdistill.students.denoisers.rules import DenoiserRules, Kept, register
from diffdistill.students.denoisers.unet_choices import unet_choices


def _depth(kept: Kept, block: str) -> int | list[int] | None:
    """Transformer layers of a block: one number, or one per attention where they differ; None without attention."""
    layers = [len(kept[f"{block}.attentions.{i}.transformer_blocks"]) for i in kept.get(f"{block}.attentions", [])]
    return None if not layers else layers[0] if len(set(layers)) == 1 else layers


def unet_config(config: Mapping, kept: Kept) -> dict:
    """Thin a `UNet2DConditionModel` config.

    Every per-stage list loses the dropped stages; a block that loses all its attentions becomes its plain twin
    (`CrossAttnDownBlock2D` -> `DownBlock2D`); transformer depths are written per attention where they differ, with the up
    path apart (`reverse_transformer_layers_per_block`) where it is not the mirror of the down path.
    """
    stages, ups = list(kept["down_blocks"]), list(kept["up_blocks"])
    count = len(config["down_block_types"])
    mirror = [count - 1 - stage for stage in reversed(stages)]
    if ups != mirror:
        raise InputError(f"student.keep: up_blocks {ups} do not mirror down_blocks {stages}; that needs up_blocks {mirror}")
    if not stages:
        raise InputError("student.keep: down_blocks keeps no stage; keep at least one")

    thin = dict(config)
    for key in (
        "block_out_channels",
        "only_cross_attention",
        "cross_attention_dim",
        "attention_head_dim",
        "num_attention_heads",
    ):
        if isinstance(config.get(key), (list, tuple)):
            thin[key] = [config[key][stage] for stage in stages]

    def block_type(kind: str, block: str) -> str:
        return kind if _depth(kept, block) else kind.replace("CrossAttn", "")

    thin["down_block_types"] = [block_type(config["down_block_types"][i], f"down_blocks.{i}") for i in stages]
    thin["up_block_types"] = [block_type(config["up_block_types"][i], f"up_blocks.{i}") for i in ups]
    resnets = [len(kept[f"down_blocks.{i}.resnets"]) for i in stages]
    thin["layers_per_block"] = resnets[0] if len(set(resnets)) == 1 else resnets

    if not kept.get("mid_block.resnets"):
        thin["mid_block_type"] = None
    elif not kept.get("mid_block.attentions"):
        thin["mid_block_type"] = "UNetMidBlock2D"

    teacher_depths = config.get("transformer_layers_per_block", 1)
    if isinstance(teacher_depths, int):
        teacher_depths = [teacher_depths] * count
    # A stage without attention has an entry that nothing reads, but the mid block takes its depth from the innermost one.
    down = [_depth(kept, f"down_blocks.{i}") or teacher_depths[i] for i in stages]
    if _depth(kept, f"down_blocks.{stages[-1]}") is None:
        down[-1] = _depth(kept, "mid_block") or down[-1]
    up = [_depth(kept, f"up_blocks.{i}") or depth for i, depth in zip(ups, reversed(down), strict=True)]
    thin["transformer_layers_per_block"] = down[0] if all(depth == down[0] for depth in down) else down
    thin["reverse_transformer_layers_per_block"] = None if up == down[::-1] and all(isinstance(d, int) for d in up) else up
    return thin


def unet_inputs(config: Mapping, size: int | None = None) -> dict:
    """Example inputs of a `UNet2DConditionModel`: batch 1, 77 tokens, square latents `size` (default `sample_size`) wide."""
    size = size or config["sample_size"]
    cross = config["cross_attention_dim"]
    inputs = dict(
        sample=torch.zeros(1, config["in_channels"], size, size),
        timestep=torch.zeros(1, dtype=torch.long),
        encoder_hidden_states=torch.zeros(1, 77, cross if isinstance(cross, int) else cross[0]),
    )
    if config.get("addition_embed_type") == "text_time":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        inputs["added_cond_kwargs"] = dict(text_embeds=torch.zeros(1, pooled), time_ids=torch.zeros(1, 6))
    return inputs


def unet_place(name: str) -> tuple[str, tuple] | None:
    """The stage of a ResNet, or of a transformer layer of an attention, and its place there; None for other modules.

    ResNet i runs before attention i; a mid block's first ResNet before all.
    """
    parts = name.split(".")
    kind = parts[-2] if len(parts) > 1 else ""
    if not parts[-1].isdigit() or not (kind == "resnets" or kind.endswith("transformer_blocks")):
        return None
    stage = name.split(".resnets")[0].split(".attentions")[0]
    if "attentions" in parts:
        return stage, (int(parts[parts.index("attentions") + 1]), 1, int(parts[-1]))
    return stage, (int(parts[-1]) - 1, 2, 0) if parts[0] == "mid_block" else (int(parts[-1]), 0, 0)


def embed_guidance(student: nn.Module, width: int) -> None:
    """Add an embedding of the guidance scale to a UNet (Meng et al., 2023, sec. 3.1); it is zero, so nothing changes yet."""
    embedding = student.time_embedding
    projection = nn.Linear(width, embedding.linear_1.in_features, bias=False)
    nn.init.zeros_(projection.weight)
    embedding.cond_proj = projection.to(embedding.linear_1.weight)
    student.register_to_config(time_cond_proj_dim=width)


register(
    "UNet2DConditionModel",
    DenoiserRules(
        thin=unet_config,
        inputs=unet_inputs,
        hint=(
            "it can express: innermost stages dropped, n ResNets per down stage and n + 1 in its up"
            " stage, as many attentions as ResNets or none, any transformer depths, and a mid block that is whole, a single"
            " ResNet, or gone, its depth equal to the innermost stage's"
        ),
        blocks=("down_blocks.*", "mid_block", "up_blocks.*"),
        layers=("*_blocks.*.resnets.*", "*_blocks.*.attentions.*", "mid_block.resnets.*", "mid_block.attentions.*"),
        parts={"down": "down_blocks", "mid": "mid_block", "up": "up_blocks"},
        place=unet_place,
        innermost=("mid_block", "down_blocks.*"),
        guidance_key="time_cond_proj_dim",
        add_guidance=embed_guidance,
        choices=unet_choices,
    ),
)
