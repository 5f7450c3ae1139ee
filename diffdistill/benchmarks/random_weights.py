"""Pipelines of true size with random weights, to measure what does not depend on training: speed and memory.

Nothing is downloaded for an architecture that ships with the package (families/architectures.py).
"""

import inspect
from collections.abc import Mapping

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from diffdistill.families.checkpoint import Checkpoint
from diffdistill.students.cut import build

NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")


def random_model(library: str, class_name: str, config: Mapping, dtype: torch.dtype, device: str) -> nn.Module:
    """A model with its library's first weights, frozen, in eval mode.

    The weights are drawn where they stay and in `dtype`: the model never holds more memory than it needs in the end. (Not by
    way of the meta device: that would lose the buffers.)
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if library == "diffusers":
                model = build(getattr(diffusers, class_name), config)
            else:
                model_class = getattr(transformers, class_name)
                model = model_class(model_class.config_class.from_dict(dict(config)))
    finally:
        torch.set_default_dtype(before)
    return model.requires_grad_(False).eval()


def random_pipeline(
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    device: str,
    denoiser: Mapping[str, nn.Module] | None = None,
    vae: Checkpoint | None = None,
) -> diffusers.DiffusionPipeline:
    """The pipeline of `checkpoint` with random weights, of which only config files are read.

    `denoiser` (name -> model) takes the place of the pipeline's own, and the config of `vae` that of its VAE. Where the
    checkpoint is no folder, stand-ins take the place of the tokenizers.
    """
    index = checkpoint.read_json("model_index.json")
    pipeline_class = getattr(diffusers, index["_class_name"])
    parts: dict[str, object] = dict.fromkeys(NOT_NEEDED) | dict(denoiser or {})
    for name, entry in index.items():
        if name in parts or not isinstance(entry, list):
            continue
        library, class_name = entry
        if class_name is None:
            parts[name] = None
        elif name == "scheduler":
            config = checkpoint.read_json("scheduler/scheduler_config.json")
            parts[name] = getattr(diffusers, class_name).from_config(config)
        elif name.startswith("tokenizer"):
            if checkpoint.is_folder:
                tokenizer = checkpoint.load(getattr(transformers, class_name).from_pretrained, subfolder=name)
            else:
                encoder = checkpoint.read_json(f"{name.replace('tokenizer', 'text_encoder')}/config.json")
                tokenizer = stand_in_tokenizer(class_name, encoder)
            parts[name] = tokenizer
        else:
            own = vae if name == "vae" else None
            config = own.read_json("config.json") if own else checkpoint.read_json(f"{name}/config.json")
            parts[name] = random_model(library, class_name, config, dtype, device)
    known = inspect.signature(pipeline_class).parameters
    options = {name: value for name, value in index.items() if name in known and not isinstance(value, list)}
    options |= dict(requires_safety_checker=False, add_watermarker=False)
    return pipeline_class(**{name: value for name, value in (options | parts).items() if name in known})


def stand_in_tokenizer(class_name: str, encoder: Mapping) -> transformers.PreTrainedTokenizerBase:
    """A tokenizer in the place of one of the class of that name, for a text encoder of the config `encoder`.

    CLIP's pads a prompt to the same length anyway; where a prompt's own length counts, its words do.
    """
    if class_name.startswith("CLIP"):
        return clip_tokenizer(encoder["vocab_size"], encoder["max_position_embeddings"])
    return word_tokenizer()


def clip_tokenizer(size: int, length: int) -> transformers.CLIPTokenizer:
    """A CLIP tokenizer of `size` tokens that knows printable ASCII, one token a character."""
    characters = [chr(code) for code in range(33, 127)]
    tokens = [*characters, *(f"{character}</w>" for character in characters)]
    tokens += [f"<{number}>" for number in range(size - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]  # the last two, as in CLIP's own vocabulary
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], pad_token=tokens[-1], model_max_length=length)


def word_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer for which every word and every mark is one token, the same for all."""
    words = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = dict(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)
