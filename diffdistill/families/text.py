"""Captions to text embeddings, as the diffusers pipelines make them."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, captions: Sequence[str]):
    """The CLIP text encoder's output, hidden states included, for `captions` padded and cut to the tokenizer's length.

    The pipelines' `encode_prompt` gives the same (a test compares them) but tokenizes every caption by itself to look for
    textual inversions, which costs a multiple of the encoding in a training loop.
    """
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)
