"""Each family loads, encodes and puts together a pipeline as diffusers does."""

import json
import shutil

import diffusers
import numpy as np
import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.families import StableDiffusion, StableDiffusionXL
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.students.weights import make_student

CAPTIONS = ["a red circle", "", "a photo of the small yellow triangle and the large blue square", "dog " * 100]
SIZES = torch.tensor([[1023, 767, 0, 0, 1024, 1024]]).repeat(len(CAPTIONS), 1)


@pytest.fixture(scope="module")
def sdxl(thin_sdxl):
    """A family, its pipeline as the distiller holds it, and the plain diffusers pipeline."""
    return parts(StableDiffusionXL, thin_sdxl)


@pytest.fixture(scope="module")
def sd(tiny_sd):
    return parts(StableDiffusion, tiny_sd)


def parts(family_class, folder):
    family = family_class(checkpoint=str(folder))
    return family, family.load(torch.float32), family.pipeline_class.from_pretrained(folder)


@pytest.fixture(params=["sdxl", "sd"])
def loaded(request):
    return request.getfixturevalue(request.param)


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


# Captions


@torch.no_grad()
def test_sd_conditioning_is_the_pipelines(sd):
    family, pipeline, plain = sd
    expected, empty = plain.encode_prompt(CAPTIONS, "cpu", 1, do_classifier_free_guidance=True)
    condition = family.encode_captions(pipeline, dict(caption=CAPTIONS))
    assert condition.keys() == {"encoder_hidden_states"}
    torch.testing.assert_close(condition["encoder_hidden_states"], expected)
    torch.testing.assert_close(condition["encoder_hidden_states"][1], empty[1])  # what guidance starts from


@torch.no_grad()
def test_sdxl_conditioning_is_the_pipelines(sdxl):
    family, pipeline, plain = sdxl
    prompts, no_prompts, pooled, no_pooled = plain.encode_prompt(CAPTIONS, device="cpu", do_classifier_free_guidance=True)
    condition = family.encode_captions(pipeline, dict(caption=CAPTIONS, time_ids=SIZES))
    ours = condition["encoder_hidden_states"], condition["added_cond_kwargs"]["text_embeds"]
    given = [index for index, caption in enumerate(CAPTIONS) if caption]
    torch.testing.assert_close(ours[0][given], prompts[given])
    torch.testing.assert_close(ours[1][given], pooled[given])
    # An empty caption is the pipeline's unconditional branch: zeros, and not the encoding of "".
    same(ours[0][1], no_prompts[1])
    same(ours[1][1], no_pooled[1])
    assert prompts[1].abs().max() > 0
    assert no_prompts.abs().max() == 0


@torch.no_grad()
def test_sdxl_encodes_an_empty_caption_where_the_pipeline_does(thin_sdxl, sdxl):
    family, _, plain = sdxl
    pipeline = family.load(torch.float32)
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    condition = family.encode_captions(pipeline, dict(caption=[""], time_ids=SIZES[:1]))
    prompts, _, pooled, _ = plain.encode_prompt([""], device="cpu", do_classifier_free_guidance=False)
    torch.testing.assert_close(condition["encoder_hidden_states"], prompts)
    torch.testing.assert_close(condition["added_cond_kwargs"]["text_embeds"], pooled)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sizes_are_not_rounded_in_half_precision(sdxl, dtype):
    """1023 is 1024 in bf16, and 16385 is 16384 in fp16."""
    family = sdxl[0]
    sizes = torch.tensor([[1023, 16385, 257, 0, 1024, 1024]])
    condition = family.encode_captions(family.load(dtype), dict(caption=["a dog"], time_ids=sizes))
    assert condition["encoder_hidden_states"].dtype == dtype
    assert condition["added_cond_kwargs"]["time_ids"].tolist() == sizes.tolist()


def test_sdxl_asks_for_the_sizes_it_needs(sdxl):
    family, pipeline, _ = sdxl
    with pytest.raises(InputError, match="StableDiffusionXL needs `time_ids` in its items"):
        family.encode_captions(pipeline, dict(caption=["a dog"]))


# Pictures


def test_latents_are_sampled_and_scaled(loaded):
    family, pipeline, plain = loaded
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.manual_seed(3)
    latents = family.encode_pictures(pipeline, pictures)
    torch.manual_seed(3)
    with torch.no_grad():
        expected = plain.vae.encode(pictures).latent_dist.sample() * plain.vae.config.scaling_factor
    same(latents, expected)
    assert latents.shape == (2, 4, 16, 16)
    assert not latents.requires_grad


def test_decoding_is_the_pipelines(loaded):
    family, pipeline, plain = loaded
    latents = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        pictures = plain.vae.decode(latents / plain.vae.config.scaling_factor).sample
    expected = plain.image_processor.postprocess(pictures, output_type="pil")
    assert np.array_equal(family.decode(pipeline, latents), np.stack([np.asarray(picture) for picture in expected]))


@pytest.fixture(params=["sdxl", "sd"])
def shifted(request, tmp_path):
    """A family of a pipeline whose VAE says the mean and deviation of its latents, and that pipeline in plain diffusers."""
    folder = shutil.copytree(request.getfixturevalue(f"tiny_{request.param}"), tmp_path / "pipeline")
    file = folder / "vae" / "config.json"
    statistics = dict(latents_mean=[-1.6, 2.25, 0.1, -0.2], latents_std=[8.4, 5.9, 3.3, 0.5])
    file.write_text(json.dumps(json.loads(file.read_text()) | statistics))
    return parts(StableDiffusionXL if request.param == "sdxl" else StableDiffusion, folder)


def test_latents_with_statistics_are_decoded_as_by_the_pipeline(shifted):
    """SDXL's takes notice of them, and that of SD does not."""
    family, pipeline, plain = shifted
    options = dict(prompt=["a red circle", "a dog"], num_inference_steps=1, guidance_scale=1.0)
    plain.set_progress_bar_config(disable=True)
    latents, pictures = (
        plain(**options, generator=torch.Generator().manual_seed(0), output_type=kind).images for kind in ("latent", "np")
    )
    assert np.array_equal(family.decode(pipeline, latents), (pictures * 255).round().astype(np.uint8))


def test_latents_with_statistics_are_encoded_as_by_the_pipeline(shifted):
    family, pipeline, plain = shifted
    pictures, seeded = torch.rand(2, 3, 32, 32) * 2 - 1, torch.Generator().manual_seed(0)
    with torch.no_grad():
        if isinstance(family, StableDiffusionXL):
            img2img = diffusers.AutoPipelineForImage2Image.from_pipe(plain)
            expected = img2img.prepare_latents(pictures, None, 2, 1, torch.float32, "cpu", seeded, add_noise=False)
        else:
            expected = plain.vae.encode(pictures).latent_dist.sample(seeded) * plain.vae.config.scaling_factor
    torch.manual_seed(0)
    same(family.encode_pictures(pipeline, pictures), expected)


# Loading


def test_a_loaded_pipeline_is_frozen_and_has_no_denoiser(loaded):
    family, _, plain = loaded
    pipeline = family.load(torch.bfloat16)
    assert pipeline.unet is None
    for name in family.models:
        model, source = getattr(pipeline, name), getattr(plain, name)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        same(model.state_dict(), {key: value.bfloat16() for key, value in source.state_dict().items()})


def test_a_vae_that_overflows_stays_in_fp32(sdxl, sd):
    """The tiny SDXL's VAE says force_upcast, as SDXL's own does; the tiny SD's does not."""
    assert sdxl[0].load(torch.float16).vae.dtype == torch.float32
    assert sdxl[0].load(torch.float16).text_encoder_2.dtype == torch.float16
    assert sdxl[0].load(torch.bfloat16).vae.dtype == torch.bfloat16
    assert sd[0].load(torch.float16).vae.dtype == torch.float16


def test_another_vae_takes_the_pipelines_place(thin_sdxl, tiny_sd):
    family = StableDiffusionXL(str(thin_sdxl), vae=str(tiny_sd / "vae"))
    expected = diffusers.AutoencoderKL.from_pretrained(tiny_sd / "vae")
    vae = family.load(torch.float32).vae
    same(vae.state_dict(), expected.state_dict())
    assert vae.config.scaling_factor == expected.config.scaling_factor == 0.18215


def test_the_denoiser_is_loaded_in_fp32_whatever_it_was_saved_in(sdxl, tmp_path):
    """From files of a variant, too: the student's first weights come from it."""
    plain = StableDiffusionXL.pipeline_class.from_pretrained(sdxl[0].checkpoint.path).to(torch.float16)
    plain.save_pretrained(tmp_path, variant="fp16")
    family = StableDiffusionXL(str(tmp_path), variant="fp16")
    denoiser = family.load_denoiser()
    assert {tensor.dtype for tensor in denoiser.state_dict().values()} == {torch.float32}
    same(denoiser.state_dict(), {name: tensor.float() for name, tensor in plain.unet.state_dict().items()})
    assert family.load(torch.float32).text_encoder_2.dtype == torch.float32
    with pytest.raises(InputError, match=f"model.teacher.checkpoint={tmp_path}: .* the variant fp16"):
        StableDiffusionXL(str(tmp_path)).load_denoiser()


def test_a_student_is_loaded_from_its_folder_or_from_a_pipeline(sdxl, thin_sdxl, tmp_path):
    family, _, plain = sdxl
    student, _ = make_student(plain.unet, {"mid_block.attentions": [], "mid_block.resnets": [1]})
    student.save_pretrained(tmp_path)
    same(family.load_student(Checkpoint(str(tmp_path), "key")).state_dict(), student.state_dict())
    same(family.load_student(Checkpoint(str(thin_sdxl), "key")).state_dict(), plain.unet.state_dict())


def test_an_assembled_pipeline_shares_its_parts(loaded):
    family, pipeline, plain = loaded
    whole = family.assemble(pipeline, plain.unet)
    assert whole.unet is plain.unet
    assert all(getattr(whole, name) is getattr(pipeline, name) for name in (*family.models, "tokenizer"))
    assert pipeline.unet is None
    # The default resolution is that of the denoiser, which the frozen pipeline has never seen.
    call = dict(prompt="a dog", num_inference_steps=1, output_type="latent")
    assert whole(**call).images.shape == plain(**call).images.shape == (1, 4, 16, 16)
    zeros = "force_zeros_for_empty_prompt"
    assert whole.config.get(zeros) == plain.config.get(zeros)


def test_the_training_schedule_is_the_checkpoints(tiny_sd_v, sdxl):
    family = StableDiffusion(str(tiny_sd_v))
    assert family.noise_schedule.prediction_type == "v_prediction"
    assert sdxl[0].noise_schedule.prediction_type == "epsilon"
    expected = diffusers.DDIMScheduler.from_pretrained(tiny_sd_v, subfolder="scheduler").alphas_cumprod
    torch.testing.assert_close(family.noise_schedule.alphas[:-1].square().float(), expected)
