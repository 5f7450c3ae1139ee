"""Random conditioning: whose captions are swapped, how often, and who sees them."""

import math

import pytest
import torch
from torch.utils.data import default_collate

from diffdistill.errors import InputError
from diffdistill.methods.parts.captions import RandomConditioning, swap_captions
from diffdistill.registry import MODELS

CAPTIONS = ["a red circle", "a small blue square", "a large green triangle", "a photo of a dog"]


def batch():
    items = [
        {"pixel_values": torch.randn(3, 32, 32), "caption": caption, "time_ids": torch.full((6,), 100.0 + i)}
        for i, caption in enumerate(CAPTIONS)
    ]
    return default_collate(items)


def distiller(family, checkpoint, **conditioning):
    return MODELS.build(
        dict(
            type="Distiller",
            teacher=dict(type=family, checkpoint=str(checkpoint)),
            student=dict(keep={"mid_block.attentions": [], "mid_block.resnets": [0]}),
            method=dict(type="DenoisingKD", conditioning=dict(type="RandomConditioning", **conditioning)),
            losses=dict(output=dict(type="OutputKD")),
        )
    )


@pytest.fixture(scope="module")
def sdxl(thin_sdxl):
    return distiller("StableDiffusionXL", thin_sdxl, rate=0.0)  # p(t) = 1: every caption is swapped


def test_probability_rises_to_one_at_pure_noise():
    """p(t) = exp(-5 (1 - t/T))."""
    p = RandomConditioning().probability(torch.tensor([0, 500, 999]), 1000)
    torch.testing.assert_close(p, torch.tensor([math.exp(-5), math.exp(-2.5), math.exp(-0.005)]))


def test_captions_are_swapped_as_often_as_p_says(sdxl):
    conditioning, count = RandomConditioning(rate=5.0), 20_000
    rows = torch.arange(count).float()
    condition = dict(encoder_hidden_states=rows[:, None, None], added_cond_kwargs=dict(time_ids=rows[:, None]))
    torch.manual_seed(0)
    for t in (0, 300, 700, 950):
        timesteps = torch.full((count,), t)
        swapped = conditioning(sdxl, condition, timesteps)["encoder_hidden_states"][:, 0, 0] != rows
        p = conditioning.probability(timesteps, 1000)[0].item()
        assert swapped.float().mean().item() == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / count))


def test_only_what_belongs_to_the_caption_is_swapped(sdxl):
    """Sizes and crop stay with the picture; prompt and pooled embedding come from one and the same other caption."""
    _, before = sdxl.encode(batch())
    after = sdxl.method.conditioning(sdxl, before, torch.zeros(4, dtype=torch.long))
    assert torch.equal(after["added_cond_kwargs"]["time_ids"], before["added_cond_kwargs"]["time_ids"])
    for i in range(4):
        same_prompt = [torch.equal(after["encoder_hidden_states"][i], other) for other in before["encoder_hidden_states"]]
        pooled = after["added_cond_kwargs"]["text_embeds"][i]
        same_pooled = [torch.equal(pooled, other) for other in before["added_cond_kwargs"]["text_embeds"]]
        assert same_prompt == same_pooled
        assert sum(same_prompt) == 1
        assert not same_prompt[i]


def test_rows_that_are_not_drawn_keep_their_caption():
    ours = dict(a=torch.zeros(3, 2), b=dict(c=torch.zeros(3), d=torch.zeros(3)))
    theirs = dict(a=torch.ones(3, 2), b=dict(c=torch.ones(3), d=torch.ones(3)))
    mixed = swap_captions(ours, theirs, torch.tensor([True, False, True]), of_picture=("d",))
    assert mixed["a"][:, 0].tolist() == mixed["b"]["c"].tolist() == [1, 0, 1]
    assert mixed["b"]["d"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("family", ["StableDiffusion", "StableDiffusionXL"])
def test_captions_of_a_file_are_encoded_like_any_other(family, request, tmp_path):
    """Every drawn caption is of the file or, dropped, empty; the sizes are still the picture's."""
    file = tmp_path / "captions.txt"
    file.write_text("the dog\n\n  a yellow square \n")
    model = distiller(
        family, request.getfixturevalue("tiny_sd" if family == "StableDiffusion" else "thin_sdxl"),
        rate=0.0, captions=str(file), dropout=0.3,
    )  # fmt: skip
    _, before = model.encode(batch())
    known = ["the dog", "a yellow square", "", ""]
    _, expected = model.encode(dict(batch(), caption=known))
    seen = set()
    torch.manual_seed(0)
    for _ in range(5):
        after = model.method.conditioning(model, before, torch.zeros(4, dtype=torch.long))
        for row in after["encoder_hidden_states"]:
            matches = [
                i for i, other in enumerate(expected["encoder_hidden_states"]) if torch.allclose(row, other, atol=1e-5)
            ]
            assert matches
            seen.add(known[matches[0]])
        if family == "StableDiffusionXL":
            assert torch.equal(after["added_cond_kwargs"]["time_ids"], before["added_cond_kwargs"]["time_ids"])
    assert seen == set(known)


def test_teacher_and_student_see_the_same_swapped_captions(sdxl):
    seen = {}
    handles = [
        model.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: seen.update({name: kwargs["encoder_hidden_states"]}), with_kwargs=True
        )
        for name, model in (("teacher", sdxl.teacher), ("student", sdxl.student))
    ]
    inputs = batch()
    losses = sdxl(**inputs)
    for handle in handles:
        handle.remove()
    assert torch.equal(seen["teacher"], seen["student"])
    assert not torch.equal(seen["teacher"], sdxl.encode(inputs)[1]["encoder_hidden_states"])
    assert all(value.isfinite() for value in losses.values())


def test_the_same_seed_swaps_the_same_captions(sdxl):
    _, condition = sdxl.encode(batch())
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(sdxl.method.conditioning(sdxl, condition, torch.zeros(4, dtype=torch.long))["encoder_hidden_states"])
    assert torch.equal(*drawn)


def test_a_batch_of_one_has_no_other_caption(sdxl):
    _, condition = sdxl.encode({name: value[:1] for name, value in batch().items()})
    with pytest.raises(InputError, match=r"model\.method\.conditioning: a batch of 1 has no other caption"):
        sdxl.method.conditioning(sdxl, condition, torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rate": -1.0}, "rate=-1.0"), ({"dropout": 2}, "dropout=2"), ({"captions": "no/such.txt"}, "captions=no/such.txt")],
)
def test_bad_options_are_refused_at_once(options, message):
    with pytest.raises(InputError, match=message):
        RandomConditioning(**options)


def test_a_file_without_captions_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match="is empty"):
        RandomConditioning(captions=str(tmp_path / "empty.txt"))
