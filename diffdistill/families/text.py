"""Captions to text embeddings, as the diffusers pipelines make them."""

from collections.abc import Sequence

from diffusers import DiffusionPipeline
from torch import nn
from transformers import PreTrainedTokenizerBase

from diffdistill.errors import shortened, warn_once
from diffdistill.families.loading import quiet

NAMED = 5  # captions that are too long and named in a warning; a large set may hold thousands of them
_cut: set[str] = set()


def encode(tokenizer: PreTrainedTokenizerBase, encoder: nn.Module, captions: Sequence[str]):
    """The CLIP text encoder's output, hidden states included, for `captions` padded and cut to the tokenizer's length.

    The pipelines' `encode_prompt` returns the same (a test compares them) but tokenizes every caption by itself to look for
    textual inversions, which costs a multiple of the encoding in a training loop. The first captions that are cut are named
    in a warning.
    """
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    full = tokens.attention_mask[:, -1]
    if len(_cut) <= NAMED and full.any():
        for caption in {caption for caption, filled in zip(captions, full.tolist(), strict=True) if filled} - _cut:
            warn_of_cut(tokenizer, caption, tokenizer.model_max_length)
    return encoder(tokens.input_ids.to(encoder.device), output_hidden_states=True)


def encode_prompt(
    pipeline: DiffusionPipeline, captions: Sequence[str], tokenizer: PreTrainedTokenizerBase, limit: int, **options
):
    """What `pipeline.encode_prompt(**options)` returns, which is given the same `captions`.

    The pipeline would warn of every batch with a caption that is cut. Here the first such captions are named: those of more
    than `limit` tokens of `tokenizer`, which is that of the encoder that reads furthest.
    """
    if len(_cut) <= NAMED:
        for caption in set(captions) - _cut:
            warn_of_cut(tokenizer, caption, limit)
    with quiet():
        return pipeline.encode_prompt(**options)


def warn_of_cut(tokenizer: PreTrainedTokenizerBase, caption: str, limit: int) -> None:
    """Warn of the end of `caption` that the encoder does not see, if any; only the first few such captions are named."""
    ids = tokenizer(caption, verbose=False).input_ids
    if len(ids) <= limit:  # it just fits
        return
    _cut.add(caption)
    if len(_cut) > NAMED:
        warn_once("more captions are longer than the tokenizer takes; they are cut, too, and not named")
        return
    lost = tokenizer.decode(ids[limit - 1 : -1], skip_special_tokens=True).strip()
    cut, end = shortened(repr(caption)), shortened(repr(lost))
    warn_once(f"caption {cut} has {len(ids)} tokens and the tokenizer takes {limit}: {end} is cut off")
