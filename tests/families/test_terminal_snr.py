"""Zero terminal SNR: one rescaled schedule for training, sampling and export, and only with v-prediction."""

import shutil

import diffusers
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.families import StableDiffusion
from diffdistill.models.distiller import Distiller
from diffdistill.registry import MODELS

KEEP = {"mid_block.attentions": [], "mid_block.resnets": [0]}
SAMPLING = dict(num_inference_steps=3, guidance_scale=3.0)


def model(folder, **sampling):
    return dict(
        type="Distiller",
        teacher=dict(type="StableDiffusion", checkpoint=str(folder), zero_terminal_snr=True),
        student=dict(keep=KEEP),
        losses=dict(task=dict(type="TaskLoss", weighting=dict(type="MinSNR"))),
        sampling=SAMPLING | sampling,
    )


@pytest.fixture(scope="module")
def distiller(tiny_sd_v):
    return Distiller(**{key: value for key, value in model(tiny_sd_v).items() if key != "type"})


@pytest.fixture
def with_pndm(tiny_sd_v, tmp_path):
    """A v-prediction pipeline whose sampler cannot rescale, as that of many Stable Diffusion 2.x checkpoints."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd_v)
    pipeline.scheduler = diffusers.PNDMScheduler(**tiny.NOISE, prediction_type="v_prediction", steps_offset=1)
    pipeline.save_pretrained(tmp_path / "pndm")
    return tmp_path / "pndm"


def test_the_schedule_is_that_of_the_paper(tiny_sd_v, distiller):
    """Alg. 1, written out: sqrt(alpha_bar) shifted to end at 0 and scaled to start where it did."""
    before = StableDiffusion(str(tiny_sd_v)).noise_schedule.alphas[:1000]
    assert before[-1] > 0.06
    expected = (before - before[-1]) * before[0] / (before[0] - before[-1])
    schedule = distiller.noise_schedule
    assert schedule.alphas[999] == 0
    torch.testing.assert_close(schedule.alphas[:1000], expected, rtol=0, atol=1e-5)
    assert schedule.snr(torch.tensor([999])) == 0


def test_pictures_are_those_of_a_rescaled_pipeline(distiller, tiny_sd_v):
    plain = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd_v, unet=distiller.student)
    plain.set_progress_bar_config(disable=True)
    plain.scheduler = diffusers.DDIMScheduler.from_config(
        plain.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    expected = plain("a dog", generator=torch.Generator().manual_seed(3), output_type="np", **SAMPLING).images
    assert np.array_equal(distiller.sample(["a dog"], [3]), (expected * 255).round().astype(np.uint8))
    assert plain.scheduler.timesteps[0] == 999


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_another_sampler_is_rescaled_too(distiller, name):
    scheduler = getattr(diffusers, name).from_config(distiller.frozen.pipeline.scheduler.config)
    assert scheduler.config.rescale_betas_zero_snr
    assert scheduler.config.timestep_spacing == "trailing"
    distiller.sampling["scheduler"] = name
    try:
        assert distiller.sample(["a dog"], [3]).std() > 0
    finally:
        del distiller.sampling["scheduler"]


def test_ddim_stands_in_for_a_sampler_that_cannot_rescale(with_pndm, tmp_path):
    """Also in the pipeline that is exported, which is read by diffusers alone."""
    family = StableDiffusion(str(with_pndm), zero_terminal_snr=True)
    pipeline = family.load(torch.float32)
    family.assemble(pipeline, family.load_denoiser()).save_pretrained(tmp_path / "exported")
    scheduler = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "exported").scheduler
    assert isinstance(scheduler, diffusers.DDIMScheduler)
    assert not scheduler.config.clip_sample
    torch.testing.assert_close(scheduler.alphas_cumprod.sqrt(), family.noise_schedule.alphas[:1000].float())
    assert isinstance(StableDiffusion(str(with_pndm)).load(torch.float32).scheduler, diffusers.PNDMScheduler)


def test_a_step_at_pure_noise_can_be_learned_from(distiller):
    distiller.method.noising.timesteps.start = 999
    try:
        batch = dict(pixel_values=torch.rand(2, 3, 32, 32), caption=["a dog", ""])
        latents, condition = distiller.encode(batch)
        step = distiller.method(distiller, latents, condition)
    finally:
        distiller.method.noising.timesteps.start = 0
    assert step.timesteps.tolist() == [999, 999]
    torch.testing.assert_close(step.target, -latents)  # v = alpha eps - sigma x_0
    assert distiller.losses["task"](step) == 0  # min(SNR, gamma) is 0 there


def test_epsilon_is_refused(tiny_sd, tmp_path):
    with pytest.raises(InputError) as caught:
        StableDiffusion(str(tiny_sd), zero_terminal_snr=True)
    expected = f"model.teacher.checkpoint={tiny_sd} predicts epsilon; zero_terminal_snr needs v_prediction"
    assert str(caught.value) == expected
    folder = shutil.copytree(tiny_sd, tmp_path / "rescaled")
    config = diffusers.PNDMScheduler.from_pretrained(folder, subfolder="scheduler").config
    diffusers.DDIMScheduler.from_config(config, rescale_betas_zero_snr=True).save_pretrained(folder / "scheduler")
    with pytest.raises(InputError, match="predicts epsilon; rescale_betas_zero_snr in its"):
        StableDiffusion(str(folder))


def test_a_chosen_sampler_must_be_able_to_rescale(tiny_sd_v):
    check_model(Config(model(tiny_sd_v, scheduler="DDIMScheduler")))
    with pytest.raises(InputError, match=r"model\.sampling\.scheduler=PNDMScheduler cannot rescale.*such as DDIMScheduler"):
        check_model(Config(model(tiny_sd_v, scheduler="PNDMScheduler")))


def test_a_student_that_predicts_epsilon_is_refused(tiny_sd_v):
    config = model(tiny_sd_v)
    config["student"]["prediction_type"] = "epsilon"
    with pytest.raises(InputError, match=r"^model\.student predicts epsilon; zero_terminal_snr needs v_prediction$"):
        check_model(Config(config))


def test_progressive_students_are_sampled_with_the_same_schedule(distiller):
    own = MODELS.build(dict(type="ProgressiveDistillation", steps=4)).sampling(distiller)["scheduler"]
    scheduler = distiller.build_scheduler(own, distiller.noise_schedule)
    torch.testing.assert_close(scheduler.alphas_cumprod.sqrt(), distiller.noise_schedule.alphas[:1000].float())
