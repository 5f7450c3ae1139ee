"""Text encoders of the shapes world: CLIP's, small, taught to state the attributes of captions."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from diffdistill.shapes import world
from diffdistill.shapes.training import Log, freeze, minimise
from diffdistill.shapes.vocabulary import MAX_LENGTH, tokenizer

HIDDEN = 32
OPEN = len(world.POSITIONS)  # the class of captions that leave the position open
CLASSES = (len(world.SHAPES), len(world.COLOURS), len(world.COLOURS), len(world.SIZES), OPEN + 1)


def tokenize(words: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (B, 16), padded."""
    return words(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids


def train_text_encoder(
    seed: int = 0, steps: int = 500, projection: bool = False, log: Log | None = None
) -> tuple[CLIPTextModel | CLIPTextModelWithProjection, float]:
    """A text encoder, frozen, and the percentage of all 2,688 captions that its heads read right in every attribute.

    It learns to state the attributes of seen captions at the end-of-text token, both after the first layer (the penultimate
    states, which SDXL uses) and in its pooled output. With `projection` it is the second encoder of SDXL.
    """
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        projection_dim=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        hidden_act="gelu" if projection else "quick_gelu",
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2 * seed + projection)
        encoder = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
        heads = nn.ModuleList(nn.Linear(HIDDEN, sum(CLASSES)) for _ in range(2))
    with torch.no_grad():  # CLIP's 0.02 leaves words too alike to be told apart in so few steps
        for name, parameter in encoder.named_parameters():
            if "embedding" in name:
                parameter.mul_(20)

    def logits(ids: Tensor) -> list[Tensor]:
        out = encoder(ids, output_hidden_states=True)
        end = (ids == words.eos_token_id).int().argmax(1)
        states = out.hidden_states[-2][torch.arange(len(ids)), end], out.text_embeds if projection else out.pooler_output
        return [head(state) for head, state in zip(heads, states, strict=False)]

    def targets(attributes: list[world.Attributes]) -> Tensor:
        return torch.tensor([[OPEN if value is None else value for value in row] for row in attributes])

    seen = [attributes for attributes in world.ALL_CAPTIONS.values() if not attributes.held_out]
    ids, classes = tokenize(words, [attributes.caption() for attributes in seen]), targets(seen)
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> Tensor:
        batch = torch.randint(len(seen), (64,), generator=generator)
        parts = [part for every in logits(ids[batch]) for part in every.split(CLASSES, 1)]
        return sum(cross_entropy(part, classes[batch, i % len(CLASSES)]) for i, part in enumerate(parts)) / len(parts)

    minimise(loss, [*encoder.parameters(), *heads.parameters()], steps, 3e-3, log)
    freeze(encoder)
    with torch.no_grad():
        read = logits(tokenize(words, list(world.ALL_CAPTIONS)))
        answers = torch.stack([torch.stack([part.argmax(1) for part in every.split(CLASSES, 1)], 1) for every in read])
    right = (answers == targets(list(world.ALL_CAPTIONS.values()))).all(2).all(0)
    return encoder, 100 * right.float().mean().item()
