"""Names of a VAE's tensors in the original checkpoints."""

import re
from collections.abc import Iterable

ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
CONVOLVED = tuple(
    f".attn_1.{name}.weight" for name in ("q", "k", "v", "proj_out")
)  # linear layers, there 1 x 1 convolutions
RULES = (
    (r"\.down_blocks\.(\d+)\.resnets", r".down.\1.block"),
    (r"\.down_blocks\.(\d+)\.downsamplers\.0", r".down.\1.downsample"),
    (r"\.up_blocks\.(\d+)\.resnets", r".up.\1.block"),
    (r"\.up_blocks\.(\d+)\.upsamplers\.0", r".up.\1.upsample"),
    (r"\.mid_block\.resnets\.0", ".mid.block_1"),
    (r"\.mid_block\.resnets\.1", ".mid.block_2"),
    (r"\.mid_block\.attentions\.0\.(group_norm|to_[qkv]|to_out\.0)", lambda found: f".mid.attn_1.{ATTENTION[found[1]]}"),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
)


def vae_names(names: Iterable[str]) -> dict[str, str]:
    """Name of a tensor of diffusers' `AutoencoderKL` -> its name in the original layout, for each of `names`."""
    renamed = {}
    stages = 1 + max(
        (int(found[1]) for name in names if (found := re.match(r"decoder\.up_blocks\.(\d+)", name))), default=-1
    )
    for name in names:
        new = name
        for pattern, replacement in RULES:
            new = re.sub(pattern, replacement, new)
        # The decoder's stages are counted from the other end.
        renamed[name] = re.sub(r"\.up\.(\d+)", lambda found: f".up.{stages - 1 - int(found[1])}", new)
    return renamed
