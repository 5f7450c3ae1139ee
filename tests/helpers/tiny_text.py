"""Text encoders and tokenizers of `tiny_transformers`, beside the CLIP of `tiny`.

The tokenizers are built in memory, of the classes that the pipelines name.
"""

import inspect
import json
import re
from collections.abc import Iterable

from diffusers import QwenImagePipeline, SanaPipeline
from tiny import WIDTH, WORDS
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2TokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

HEADS, HEAD = 2, 16
SPACE = "▁"  # before each word, as sentencepiece writes it
ASCII = [chr(code) for code in range(33, 127)]


def t5_tokenizer() -> T5TokenizerFast:
    """A T5 tokenizer of printable ASCII, in which each of `WORDS` is one token."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces = [(SPACE + word, -1.0) for word in WORDS] + [(character, -9.0) for character in [SPACE, *ASCII]]
    return T5TokenizerFast(vocab=special + pieces, extra_ids=0, model_max_length=512)


def t5_encoder(tokens: T5TokenizerFast, width: int = WIDTH) -> T5EncoderModel:
    """Two layers, gated as in T5 1.1."""
    config = T5Config(
        vocab_size=len(tokens),
        d_model=width,
        d_kv=HEAD,
        d_ff=2 * WIDTH,
        num_layers=2,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def gemma_tokenizer() -> GemmaTokenizerFast:
    """A Gemma tokenizer of printable ASCII, in which each of `WORDS` and of SANA's instruction is one token."""
    instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    vocabulary, merges = byte_pairs([" ".join(WORDS), "\n".join(instruction)], words, special, [SPACE, "\n", *ASCII])
    return GemmaTokenizerFast(vocab=vocabulary, merges=merges, add_bos_token=True)


def qwen_tokenizer() -> Qwen2TokenizerFast:
    """A Qwen 2 tokenizer of all bytes, in which each of `WORDS` is one token.

    Each word of the template around a prompt is one, too: the pipeline drops the embeddings of 34 tokens before the prompt.
    """
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    template = QwenImagePipeline(None, None, None, None, None).prompt_template_encode
    texts = [*re.split(r"<\|\w+\|>|{}", template), *WORDS, *(f" {word}" for word in WORDS)]
    words = Qwen2TokenizerFast().backend_tokenizer.pre_tokenizer
    vocabulary, merges = byte_pairs(texts, words, [], pre_tokenizers.ByteLevel.alphabet())
    vocabulary |= {mark: len(vocabulary) + index for index, mark in enumerate(marks)}
    return Qwen2TokenizerFast(vocab=vocabulary, merges=merges, additional_special_tokens=marks[1:])


def byte_pairs(texts: Iterable[str], words, special: list[str], alphabet: list[str]) -> tuple[dict, list]:
    """Vocabulary and merges by which every word of `texts`, as the pre-tokenizer `words` cuts them, is one token."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = words
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def gemma(tokens: GemmaTokenizerFast) -> Gemma2Model:
    """Two layers: one of local attention, one of global."""
    config = Gemma2Config(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        head_dim=HEAD,
        query_pre_attn_scalar=HEAD,
        pad_token_id=tokens.pad_token_id,
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
    )
    return Gemma2Model(config).eval()


def qwen(tokens: Qwen2TokenizerFast) -> Qwen2_5_VLForConditionalGeneration:
    """Two layers for text; the tower for pictures, which this pipeline never calls, has one."""
    text = dict(
        vocab_size=len(tokens),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=1,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        bos_token_id=tokens.pad_token_id,
        eos_token_id=tokens.convert_tokens_to_ids("<|im_end|>"),
    )
    vision = dict(
        depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=WIDTH, fullatt_block_indexes=[0]
    )
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()
