"""Ways to run the same denoiser: memory format, torch.compile, and the kernel of its attention."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, XFormersAttnProcessor
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from diffdistill.errors import InputError

# "sdpa" leaves the choice of the kernel to torch, three are single kernels of it; "plain" is softmax(Q K^T) V.
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
PROCESSORS = {"sdpa": AttnProcessor2_0, "plain": AttnProcessor, "xformers": XFormersAttnProcessor}
ATTENTIONS = (*PROCESSORS, *KERNELS)
# A denoiser whose attention is of a kind of its own keeps its processors, and is told the kernel instead.
OF_ITS_OWN = {**KERNELS, "sdpa": None, "plain": SDPBackend.MATH}
WORDS = ("eager", "channels_last", "compile", *ATTENTIONS)


class Variant:
    """A way to run a denoiser: `eager`, or words of `WORDS` joined by "+", such as `channels_last+compile`.

    Attention is sdpa unless a word names another. Only the denoiser is changed: VAE and text encoders run as they are.
    """

    def __init__(self, name: str):
        self.name = name
        words = name.split("+")
        unknown = [word for word in words if word not in WORDS]
        if unknown:
            raise InputError(f"--variants {name}: {unknown[0]!r} is unknown; join words of {', '.join(WORDS)} with +")
        attentions = [word for word in words if word in ATTENTIONS]
        if len(attentions) > 1:
            raise InputError(f"--variants {name}: {' and '.join(attentions)} exclude each other; give one")
        self.attention = attentions[0] if attentions else "sdpa"
        if self.attention == "xformers" and find_spec("xformers") is None:
            raise InputError(f"--variants {name}: xformers is not installed; leave it out, or pip install xformers")
        self.compiled = "compile" in words
        self.memory_format = torch.channels_last if "channels_last" in words else torch.contiguous_format

    def wrap(self, denoiser: nn.Module, backend: str = "inductor") -> nn.Module:
        """The module to call in the denoiser's place; both share their weights."""
        if not self.compiled:
            return denoiser
        # All denoisers of a class share one limit of compilations, beyond which torch goes on without compiling.
        torch._dynamo.config.recompile_limit = 64
        return torch.compile(denoiser, backend=backend, dynamic=False)

    def prepare(self, denoiser: nn.Module) -> None:
        """Bring the weights, which all variants share, into this variant's form."""
        denoiser.to(memory_format=self.memory_format)
        if not self.replaces_processors(denoiser):
            return
        processor = PROCESSORS.get(self.attention, AttnProcessor2_0)
        if any(type(own) is not processor for own in denoiser.attn_processors.values()):
            denoiser.set_attn_processor(processor())

    def replaces_processors(self, denoiser: nn.Module) -> bool:
        """Whether the attention of `denoiser` is of the common kind, which has a processor for every variant.

        Raises InputError where it is not, and this variant needs one.
        """
        common = all(type(own) in PROCESSORS.values() for own in denoiser.attn_processors.values())
        if not common and self.attention not in OF_ITS_OWN:
            raise InputError(
                f"--variants {self.name}: the attention of a {type(denoiser).__name__} does not run by {self.attention};"
                f" choose one of {', '.join(OF_ITS_OWN)}"
            )
        return common

    def run(self, function: Callable[[], object], denoiser: nn.Module) -> object:
        """Call `function`, which calls `denoiser`, with the attention kernel of this variant, and return its result.

        Raises InputError where torch has no such kernel for the device, dtype or shape.
        """
        kernel = (KERNELS if self.replaces_processors(denoiser) else OF_ITS_OWN).get(self.attention)
        context: AbstractContextManager = sdpa_kernel(kernel) if kernel else nullcontext()
        try:
            with torch.no_grad(), context:
                return function()
        except RuntimeError as error:
            if kernel is None or "No available kernel" not in str(error):
                raise
            raise InputError(f"--variants {self.name}: torch has no such kernel for this device, dtype and shape") from error
