"""What is known of the transformers whose blocks are all alike: what they hand on, and how they are measured."""

import diffusers
import pytest

from diffdistill.errors import InputError
from diffdistill.students.cut import build_on_meta, plan_student
from diffdistill.students.denoisers import rules_of
from diffdistill.students.features import derive_pairs, trace
from diffdistill.students.size import measure

Flux, PixArt = diffusers.FluxTransformer2DModel, diffusers.PixArtTransformer2DModel
Sana, Qwen = diffusers.SanaTransformer2DModel, diffusers.QwenImageTransformer2DModel
WIDTH = 32
HEADS = dict(num_attention_heads=2, attention_head_dim=16)
ROPE = dict(axes_dims_rope=(4, 6, 6))
CROSS = dict(num_layers=4, cross_attention_dim=WIDTH, sample_size=8)
TINY = {
    Flux: dict(HEADS, **ROPE, num_layers=4, num_single_layers=3, guidance_embeds=True),
    PixArt: dict(HEADS, **CROSS, caption_channels=24),
    Sana: dict(HEADS, **CROSS, num_cross_attention_heads=2, cross_attention_head_dim=16),
    Qwen: dict(HEADS, **ROPE, num_layers=4),
}


@pytest.mark.parametrize(
    ("kind", "tokens", "text"),
    [(Flux, 16, 512), (Qwen, 16, 512), (PixArt, 16, None), (Sana, 64, None)],
    ids=["flux", "qwen", "pixart", "sana"],
)
def test_blocks_hand_on_their_streams(kind, tokens, text):
    """One call on latents of 8 x 8: a token is 2 x 2 of them, but for SANA."""
    shapes = trace(kind, TINY[kind], size=8)
    blocks = [f"{path}.{number}" for path in rules_of(kind).parts for number in range(3)]
    for block in blocks:
        assert shapes[block] == (1, tokens, WIDTH)
        assert shapes.get(f"{block}:text") == (text and (1, text, WIDTH))


@pytest.mark.parametrize("kind", TINY)
def test_each_layer_is_paired_with_what_its_successor_saw(kind):
    config, layers = plan_student(kind, TINY[kind], {"transformer_blocks": [0, 3]})
    pairs = derive_pairs(kind, config, TINY[kind], layers, level="layers", size=8)
    assert pairs[:2] == [("transformer_blocks.0", "transformer_blocks.2"), ("transformer_blocks.1", "transformer_blocks.3")]
    singles = [f"single_transformer_blocks.{number}" for number in range(3)] if kind is Flux else []
    assert pairs[2:] == [(name, name) for name in singles]


@pytest.mark.parametrize("kind", TINY)
def test_the_native_resolution_is_the_one_that_is_measured(kind):
    model = build_on_meta(kind, TINY[kind])
    native = 128 if kind in (Flux, Qwen) else 8
    assert rules_of(kind).latent_size(model.config) == native
    assert measure(model)[0] == measure(model, size=native)[0] != measure(model, size=16)[0]


def test_only_flux_is_told_the_scale_of_guidance():
    for kind, config in TINY.items():
        assert rules_of(kind).embeds_guidance(config) == (kind is Flux)
    assert not rules_of(Flux).embeds_guidance(dict(TINY[Flux], guidance_embeds=False))
    assert trace(Flux, dict(TINY[Flux], guidance_embeds=False), size=8)


@pytest.mark.parametrize("kind", TINY)
def test_a_list_without_blocks_is_refused(kind):
    path = list(rules_of(kind).parts)[-1]
    with pytest.raises(InputError, match=f"{path} keeps no block; keep at least one"):
        plan_student(kind, TINY[kind], {path: []})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("ChromaTransformer2DModel", "its modulation is addressed by the number"), ("HiDreamImageTransformer2DModel", "llama")],
)
def test_what_counts_its_layers_cannot_be_cut(kind, reason):
    with pytest.raises(InputError, match=f"a {kind} cannot be cut: .*{reason}"):
        plan_student(getattr(diffusers, kind), {}, {"transformer_blocks": [0]})
