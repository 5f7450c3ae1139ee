"""Names of the tensors of OpenCLIP's text encoders, which SD 2.x and XL have, in the original checkpoints.

OpenAI's CLIP, of SD 1.x and XL, has its names of transformers there.
"""

import re

OUTSIDE = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
}
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
TRANSPOSED = "text_projection"
FUSED = ("q_proj", "k_proj", "v_proj")  # one tensor there, in this order


def open_clip_place(name: str) -> tuple[str, int | None]:
    """Where a tensor of `CLIPTextModel`, by its published `name`, is: the name, and which third of it, if not all."""
    if name in OUTSIDE:
        return OUTSIDE[name], None
    layer, inner, kind = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name).groups()
    block = f"transformer.resblocks.{layer}"
    if inner in LAYER:
        return f"{block}.{LAYER[inner]}.{kind}", None
    return f"{block}.attn.in_proj_{kind}", FUSED.index(inner.removeprefix("self_attn."))
