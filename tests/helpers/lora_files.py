"""LoRA files as the trainers of other projects write them, with random weights."""

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RESNET = dict(conv1="in_layers_2", time_emb_proj="emb_layers_1", conv2="out_layers_3", conv_shortcut="skip_connection")
OUTER = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding.linear_1": "time_embed_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "add_embedding.linear_2": "label_emb_0_2",
}


def diffusers_name(layer: str) -> str:
    return layer.replace(".", "_")


def original_name(layer: str) -> str:
    """The name in SDXL's original checkpoint of a layer of diffusers' U-Net: three input and output blocks a stage."""
    if layer in OUTER:
        return OUTER[layer]
    side, *parts = layer.split(".")
    stage = int(parts.pop(0)) if side != "mid_block" else 0
    kind, number, *rest = parts
    rest = "_".join(RESNET.get(part, part) for part in rest)
    if side == "mid_block":
        return f"middle_block_{1 if kind == 'attentions' else 2 * int(number)}_{rest}"
    if kind == "downsamplers":
        return f"input_blocks_{3 * stage + 3}_0_op"
    if kind == "upsamplers":
        return f"output_blocks_{3 * stage + 2}_2_conv"
    place = {"resnets": 0, "attentions": 1}[kind]
    block = 3 * stage + int(number)
    return f"input_blocks_{block + 1}_{place}_{rest}" if side == "down_blocks" else f"output_blocks_{block}_{place}_{rest}"


def matrices(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Random first and second matrix for a Linear or convolution with `weight`."""
    first = torch.randn(rank, *weight.shape[1:])
    return first, torch.randn(weight.shape[0], rank, *[1] * (weight.ndim - 2))


def delta(first: Tensor, second: Tensor, scale: float) -> Tensor:
    return scale * (second.flatten(1) @ first.flatten(1)).reshape(len(second), *first.shape[1:])


def adapted_layers(model: nn.Module, *kinds: str) -> dict[str, Tensor]:
    """The weights of all Linear layers and convolutions whose names end in one of `kinds`; of all without `kinds`."""
    return {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and (not kinds or name.endswith(kinds))
    }


def write_kohya(file, prefixes: dict[str, dict[str, Tensor]], name=diffusers_name, alphas=(1.0, 3.0), ranks=(2, 4)) -> dict:
    """Write a kohya file; gives the delta of every layer. `prefixes`: e.g. "lora_unet_" -> layer -> weight.

    Ranks and alphas take turns. Text encoders have one naming only.
    """
    tensors, deltas = {}, {}
    torch.manual_seed(1)
    for prefix, weights in prefixes.items():
        for number, (layer, weight) in enumerate(weights.items()):
            rank, alpha = ranks[number % len(ranks)], alphas[number // 2 % len(alphas)]
            key = prefix + (name(layer) if prefix == "lora_unet_" else diffusers_name(layer))
            tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = pair = matrices(weight, rank)
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
            deltas[prefix + layer] = delta(*pair, alpha / rank)
    save_file(tensors, file, metadata=dict(ss_network_module="networks.lora"))
    return deltas
