"""Each family around a transformer tells its denoiser, in training, what the pipeline of diffusers tells it in sampling."""

import copy

import numpy as np
import pytest
import torch
from kinds import CAPTIONS, HEIGHT, TOKENS, WIDTH

from diffdistill.families import Flux, QwenImage
from diffdistill.families.base import freeze
from diffdistill.families.flux import pack, unpack

GUIDED = ["sd3", "sd3_t5", "pixart", "sana"]  # by a second call of the denoiser, without the caption


def close(left, right, atol=1e-5):
    torch.testing.assert_close(left, right, rtol=0, atol=atol)


# Calls of the denoiser


@torch.no_grad()
def test_sampling_by_predictions_is_the_pipelines(loaded):
    family, steps, latents = loaded.family, 3, loaded.noise()
    packed = isinstance(family, (Flux, QwenImage))
    expected = loaded.draw(steps=steps, latents=pack(latents) if packed else latents)
    scheduler = type(loaded.plain.scheduler).from_config(loaded.plain.scheduler.config)
    if family.sigmas_given:
        mu = np.log(family.noise_schedule.shift_at(latents))
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu)
    else:
        scheduler.set_timesteps(steps)
    condition = loaded.encode(CAPTIONS)
    for timestep in scheduler.timesteps:
        prediction = family.predict(loaded.denoiser, latents, timestep.expand(2), condition)
        assert prediction.shape == latents.shape
        latents = scheduler.step(prediction, timestep, latents).prev_sample
    close(latents, family.sampled_latents(expected, HEIGHT, WIDTH))
    assert latents.std() > 0.3


def test_prediction_follows_timesteps_and_captions(loaded):
    condition, other = loaded.encode(CAPTIONS), loaded.encode(["a blue square", CAPTIONS[1]])
    ours = loaded.predict(loaded.denoiser, condition)
    change = (ours - loaded.predict(loaded.denoiser, other)).abs()
    assert change[0].max() > 1e-4
    assert change[1].max() == 0
    change = (ours - loaded.predict(loaded.denoiser, condition, timesteps=(100, 500))).abs()
    assert change[0].max() == 0
    assert change[1].max() > 1e-4


def test_flux_is_told_the_scale_of_guidance(load):
    loaded = load("flux")
    family, condition = loaded.family, loaded.encode(CAPTIONS)
    scales = torch.tensor([2.0, 5.0])
    guided = family.tell_guidance(loaded.pipeline, loaded.denoiser, condition, scales)
    assert torch.equal(guided["guidance"], scales)
    assert torch.equal(loaded.told(guidance_scale=5.0)["guidance"], torch.tensor([5.0, 5.0]))
    ours = loaded.predict(loaded.denoiser, guided)
    for row, scale in enumerate(scales):
        alone = Flux(checkpoint=str(loaded.folder), guidance_scale=scale.item())
        whole = loaded.predict(loaded.denoiser, condition, family=alone)
        close(ours[row], whole[row], atol=1e-6)
        assert alone.call_options["guidance_scale"] == scale
    assert (ours - loaded.predict(loaded.denoiser, condition)).abs().amax((1, 2, 3)).min() > 1e-5


def test_schnell_has_no_place_for_a_scale(load):
    loaded = load("flux_schnell")
    condition = loaded.encode(CAPTIONS)
    assert loaded.family.tell_guidance(loaded.pipeline, loaded.denoiser, condition, torch.ones(2)) == condition


def test_tokens_are_the_pipelines():
    latents = torch.randn(2, 3, 4, 6)
    tokens = Flux.pipeline_class._pack_latents(latents, *latents.shape)
    assert torch.equal(pack(latents), tokens)
    assert torch.equal(unpack(tokens, 4, 6), latents)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_predictions_in_half_precision(loaded, dtype):
    """Of a teacher in that dtype, and of a student under autocast."""
    pipeline, whole = loaded.family.load(dtype), loaded.predict(loaded.denoiser, loaded.encode(CAPTIONS))
    condition = loaded.encode(CAPTIONS, pipeline)
    with torch.autocast("cpu", dtype):
        student = loaded.predict(loaded.denoiser, condition)
    half = freeze(copy.deepcopy(loaded.denoiser), dtype)
    teacher = loaded.predict(half, condition, latents=loaded.noise().to(dtype))
    for prediction in (student, teacher):
        assert prediction.dtype == dtype
        assert (prediction.float() - whole).abs().mean() < 0.02


def test_sana_is_sampled_at_its_own_resolution(load):
    """Its pipeline would take every denoiser to be one of 1024 pixels."""
    loaded = load("sana")
    assert loaded.family.native_size == 32
    assert {loaded.family.call_options[side] for side in ("height", "width")} == {32}


# Captions


@pytest.mark.parametrize(
    "captions", [CAPTIONS, ["a dog", "dog " * 100], ["dog " * 100] * 2], ids=["short", "one long", "long"]
)
def test_captions_are_what_the_pipeline_tells_the_denoiser(loaded, captions):
    condition, expected = loaded.encode(captions), loaded.told(captions)
    mask = condition.get("encoder_hidden_states_mask")
    if mask is not None:  # Qwen's pipeline pads only to the longest caption, and without padding it has no mask
        assert mask.shape == (2, TOKENS)
        length = expected["encoder_hidden_states"].shape[1]
        assert not mask[:, length:].any()
        condition = {name: rows[:, :length] for name, rows in condition.items()}
        if expected["encoder_hidden_states_mask"] is None:
            assert condition.pop("encoder_hidden_states_mask").all()
    for name, rows in condition.items():
        close(rows, expected[name], atol=1e-6)
        assert not rows.requires_grad


@pytest.mark.parametrize("kind", GUIDED)
def test_no_caption_is_the_pipelines_unconditional_branch(load, kind):
    loaded = load(kind)
    condition, expected = loaded.encode(["", "a dog"]), loaded.told(guidance_scale=4.0, captions=["a dog"] * 2)
    for name, rows in condition.items():
        assert len(expected[name]) == 4
        close(rows[0], expected[name][0], atol=1e-6)
        close(rows[1], expected[name][2], atol=1e-6)


# Pictures


def test_decoding_is_the_pipelines(loaded):
    latents = loaded.family.sampled_latents(loaded.draw(), HEIGHT, WIDTH)
    assert latents.shape == loaded.noise().shape
    pictures = loaded.family.decode(loaded.pipeline, latents)
    assert pictures.shape == (2, HEIGHT, WIDTH, 3)
    # Rounded to the nearest; a value at a half may fall to either side, by the last bit of what a processor computes.
    assert np.abs(pictures - loaded.draw(kind="np") * 255).max() < 0.501


@torch.no_grad()
def test_encoding_is_undone_by_decoding(loaded):
    """So it is the pipeline's own scaling, as decoding is."""
    vae, pictures = loaded.plain.vae, torch.rand(2, 3, HEIGHT, WIDTH) * 2 - 1
    torch.manual_seed(3)
    latents = loaded.family.encode_pictures(loaded.pipeline, pictures)
    assert latents.shape == loaded.noise().shape
    assert latents.dtype == torch.float32
    torch.manual_seed(3)
    encoded = vae.encode(pictures.unsqueeze(2) if isinstance(loaded.family, QwenImage) else pictures)
    raw = encoded.latent_dist.sample() if "latent_dist" in encoded else encoded.latent
    decoded = vae.decode(raw).sample.reshape(pictures.shape)
    expected = loaded.plain.image_processor.postprocess(decoded, output_type="np") * 255
    assert np.abs(loaded.family.decode(loaded.pipeline, latents) - expected).max() < 0.51  # the rest is rounding
    assert not torch.allclose(latents, raw.reshape(latents.shape))
