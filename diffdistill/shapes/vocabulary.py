"""A byte-level vocabulary with one token for every word of the shapes world, built by rule and the same on every run."""

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from diffdistill.shapes import world

MAX_LENGTH = 16  # the longest caption has 11 words, and a token at either end
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = tuple(dict.fromkeys(word for caption in world.ALL_CAPTIONS for word in caption.split()))


def merges() -> list[tuple[str, str]]:
    """Merge rules, most urgent first, that leave each word whole.

    A word's rules join what the rules of the words before it leave of it; so later words never disturb earlier ones.
    """
    rules: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        for rule in rules:
            pieces = _apply(rule, pieces)
        while len(pieces) > 1:
            rules.append((pieces[0], pieces[1]))
            pieces = _apply(rules[-1], pieces)
    return rules


def _apply(rule: tuple[str, str], pieces: list[str]) -> list[str]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == rule:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer over 256 bytes, the same bytes at the end of a word, the merged pieces, and two special tokens."""
    letters = sorted(ByteLevel.alphabet())
    rules = merges()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in rules), START, END]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=rules,
        model_max_length=MAX_LENGTH,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )
