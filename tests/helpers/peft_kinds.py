"""One adapter of every kind, and other weights for them."""

import torch
from torch import nn

from diffdistill.models.adapters import trainable

TARGETS = ["attn2.to_q", "attn2.to_v"]
LORA = dict(type="LoraConfig", r=4, lora_alpha=8, target_modules=TARGETS)
KINDS = {
    "lora": LORA,
    "dora": LORA | dict(use_dora=True),
    "loha": dict(type="LoHaConfig", r=2, alpha=4, target_modules=TARGETS),
    "lokr": dict(type="LoKrConfig", r=2, alpha=4, target_modules=TARGETS),
    "oft": dict(type="OFTConfig", oft_block_size=4, r=0, target_modules=TARGETS),
}


def shake(model: nn.Module) -> nn.Module:
    """Adapters begin by changing nothing: give their weights other values."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model
