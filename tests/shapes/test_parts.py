import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file

from diffdistill.shapes import parts, world
from diffdistill.shapes.pixels import to_images, to_tensor
from diffdistill.shapes.text_encoder import tokenize, train_text_encoder
from diffdistill.shapes.vae import round_trip, train_vae
from diffdistill.shapes.vocabulary import MAX_LENGTH, WORDS, tokenizer

FOUR = ("a", "large", "red", "circle")
TOOL = Path(__file__).parents[2] / "tools" / "make_shapes.py"


@pytest.fixture(scope="module")
def vae():
    return train_vae(seed=0, steps=2, batch=2)


def test_every_word_is_one_token_and_every_caption_fits():
    words = tokenizer()
    assert all(len(words.tokenize(word)) == 1 for word in WORDS)
    assert max(len(words(caption).input_ids) for caption in world.ALL_CAPTIONS) <= MAX_LENGTH
    assert words.decode(words("a large red circle").input_ids, skip_special_tokens=True) == "a large red circle"


def test_the_vocabulary_spells_what_it_does_not_know():
    words = tokenizer()
    assert words.unk_token_id not in words("späte Grüße, 3 dogs!", add_special_tokens=False).input_ids


def test_the_vocabulary_is_the_same_everywhere():
    words = tokenizer()
    assert len(words) == 603
    assert words("a large red circle", add_special_tokens=False).input_ids == [words.vocab[w + "</w>"] for w in FOUR]


@pytest.mark.parametrize(("projection", "steps", "least"), [(False, 300, 95), (True, 150, 70)])
def test_a_text_encoder_learns_the_attributes_of_captions(projection, steps, least):
    encoder, accuracy = train_text_encoder(seed=0, steps=steps, projection=projection)
    assert accuracy >= least
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training


def test_pooling_looks_at_the_end_of_the_text():
    """CLIPTextModel pools at `eos_token_id`, whose default does not fit another vocabulary."""
    encoder, _ = train_text_encoder(seed=0, steps=1)
    words = tokenizer()
    ids = tokenize(words, ["a small red circle on a blue background"])
    out = encoder(ids)
    torch.testing.assert_close(out.pooler_output[0], out.last_hidden_state[0, 9])  # start, 8 words, end


def test_parts_depend_on_their_seed_alone(vae):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = train_vae(seed=0, steps=2, batch=2).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    other = train_vae(seed=1, steps=2, batch=2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in vae.state_dict().items())
    assert any(not torch.equal(value, other[name]) for name, value in vae.state_dict().items())


def test_training_teaches_the_vae_and_scales_its_latents():
    losses = []
    vae = train_vae(seed=0, steps=40, batch=4, log=lambda step, loss: losses.append(loss))
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    pixels = to_tensor(world.draw(world.sample(9, range(256))))
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.sample(torch.Generator().manual_seed(0)) * vae.config.scaling_factor
    assert latents.shape == (256, 4, 8, 8)
    assert latents.std().item() == pytest.approx(1, abs=0.05)


def test_an_untrained_vae_fails_the_round_trip(vae):
    figures = round_trip(vae, n=64)
    assert set(figures) == {"shape", "colour", "background", "size", "position", "all"}
    assert figures["all"] == 0


def test_tensors_and_images_convert_back_and_forth():
    images = world.draw(world.sample(0, range(8)))
    pixels = to_tensor(images)
    assert pixels.shape == (8, 3, 32, 32)
    assert (to_images(pixels) == images).all()
    assert (to_images(3 * pixels[:, :, :1]) <= 255).all()


@pytest.mark.parametrize(("layout", "parameters"), [("sdxl", 3_968_324), ("sd", 3_128_580)])
def test_unets_have_the_published_size_of_the_benchmark(layout, parameters):
    unet = parts.make_unet(layout, seed=0)
    assert unet.num_parameters() == parameters
    same, other = (parts.make_unet(layout, seed).state_dict()["conv_in.weight"] for seed in (0, 1))
    assert torch.equal(unet.state_dict()["conv_in.weight"], same)
    assert not torch.equal(same, other)


def run_tool(out: Path, *options: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [TOOL.name, str(out), "--text-steps", "2", "--vae-steps", "2", *options])
        runpy.run_path(str(TOOL), run_name="__main__")
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return run_tool(tmp_path_factory.mktemp("parts"), "--seed", "3")


@pytest.mark.parametrize(("layout", "kind"), [("sdxl", StableDiffusionXLPipeline), ("sd", StableDiffusionPipeline)])
def test_the_tool_writes_pipelines_that_load_and_sample(made, layout, kind):
    for file in (made / layout).glob("text_encoder*/model.safetensors"):
        assert all(name.startswith(("text_model.", "text_projection.")) for name in load_file(file))
    pipeline = kind.from_pretrained(made / layout)
    pipeline.set_progress_bar_config(disable=True)
    captions = ["a large red circle on a blue background", "a small red cross on a blue background"]
    images = pipeline(captions, num_inference_steps=2, guidance_scale=3.0, output_type="np").images
    assert images.shape == (2, 32, 32, 3)


def test_the_tool_writes_down_its_figures(made):
    figures = json.loads((made / "parts.json").read_text())
    assert figures["sdxl_denoiser_parameters"] == 3_968_324
    assert {"text_accuracy", "text_accuracy_2", "vae_round_trip", "scaling_factor", "seconds"} <= set(figures)


def test_the_tool_writes_the_same_files_again(made, tmp_path):
    again = run_tool(tmp_path, "--layout", "sd", "--seed", "3")
    assert not (again / "sdxl").exists()
    files = [path.relative_to(again) for path in (again / "sd").rglob("*") if path.is_file()]
    assert len(files) >= 9
    for file in files:
        assert (made / file).read_bytes() == (again / file).read_bytes(), file
