"""Guidance that a student learns: its algebra, what the student is told, and guidance distillation."""

import diffusers
import pytest
import tiny_transformers
import torch
from closed_form import ClosedForm

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.methods.parts.guidance import guided_sample
from diffdistill.models.distiller import Distiller

SCALES = torch.tensor([1.0, 3.0, 7.5], dtype=torch.double)
WHOLE = dict(task=dict(type="TaskLoss"))


def model(folder, method=None, student=None, family="StableDiffusionXL", **options):
    method = method or dict(type="GuidanceDistillation", guidance_scale=[1, 8])
    student = dict(guidance_embedding=16) if student is None else student
    teacher = dict(type=family, checkpoint=str(folder), **options.pop("teacher", {}))
    return dict(type="Distiller", teacher=teacher, student=student, method=method, losses=WHOLE) | options


def build(*args, **options) -> Distiller:
    options = model(*args, **options)
    return Distiller(**{key: value for key, value in options.items() if key != "type"})


@pytest.fixture(scope="module")
def distiller(thin_sdxl):
    return build(thin_sdxl)


@pytest.fixture
def batch():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).repeat(2, 1)
    return dict(pixel_values=pictures, caption=["a red circle", "a dog"], time_ids=sizes)


# Algebra


@pytest.mark.parametrize("teacher_type", ["epsilon", "v_prediction"])
def test_mixing_in_eps_x_and_v_is_the_same(teacher_type):
    """All three are affine in each other at the same noisy latents, and the weights of the mixture sum to one."""
    distiller = ClosedForm(teacher_type)
    timesteps = torch.tensor([0, 500, 999])
    noisy = torch.randn(3, 4, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    condition = dict(caption=torch.tensor([1.0, -2.0, 0.5]))
    found, _ = guided_sample(distiller, noisy, timesteps, condition, SCALES)

    signal = diffusers.DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).alphas_cumprod.double()[timesteps]
    alpha, sigma = signal.sqrt().view(-1, 1, 1, 1), (1 - signal).sqrt().view(-1, 1, 1, 1)
    said = [distiller.predict_teacher(noisy, timesteps, each)[0] for each in (condition, dict(caption=torch.zeros(1)))]
    if teacher_type == "epsilon":
        eps = said
        x = [(noisy - sigma * each) / alpha for each in eps]
    else:
        x = [alpha * noisy - sigma * each for each in said]
        eps = [sigma * noisy + alpha * each for each in said]
    v = [alpha * e - sigma * d for e, d in zip(eps, x, strict=True)]
    w = SCALES.view(-1, 1, 1, 1) - 1
    mixed = [(1 + w) * conditional - w * unconditional for conditional, unconditional in (x, eps, v)]  # Meng et al., alg. 1
    for expected in (mixed[0], (noisy - sigma * mixed[1]) / alpha, alpha * noisy - sigma * mixed[2]):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_scale_of_one_is_the_conditional_prediction():
    distiller = ClosedForm()
    noisy, timesteps = torch.ones(1, 4, 2, 2, dtype=torch.double), torch.tensor([300])
    one = guided_sample(distiller, noisy, timesteps, dict(caption=torch.ones(1)), torch.ones(1))[0]
    alone = guided_sample(distiller, noisy, timesteps, dict(caption=torch.ones(1)), None)[0]
    torch.testing.assert_close(one, alone, rtol=0, atol=1e-12)


# What the denoisers are told


def calls(denoiser, action) -> list[dict]:
    """The keyword arguments of every call of `denoiser` while `action` runs."""
    seen = []
    handle = denoiser.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    try:
        action()
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("family", ["StableDiffusion", "StableDiffusionXL"])
def test_a_student_is_told_in_training_what_the_pipeline_tells_it(family, tiny_sd, thin_sdxl):
    distiller = build(thin_sdxl if family == "StableDiffusionXL" else tiny_sd, family=family)
    distiller.sample_with(scheduler="DDIMScheduler", num_inference_steps=2, guidance_scale=6.3)
    seen = calls(distiller.student, lambda: distiller.sample(["a dog", "a red circle"], [0, 1]))
    assert len(seen) == 2, "one evaluation a step"
    ours = distiller.tell_guidance({}, torch.tensor([6.3, 6.3]))["timestep_cond"]
    assert ours.shape == (2, 16)
    for call in seen:
        torch.testing.assert_close(call["timestep_cond"], ours, rtol=0, atol=1e-6)
    assert distiller.tell_guidance(dict(a=1), torch.ones(2), teacher=True) == dict(a=1)


def test_the_unconditional_branch_is_the_pipelines(distiller, batch):
    """SDXL's own is zeros, not the encoding of an empty caption."""
    plain = distiller.family.assemble(distiller.frozen.pipeline, distiller.teacher)
    options = dict(num_inference_steps=1, guidance_scale=3.0, output_type="latent", height=32, width=32)
    theirs = calls(distiller.teacher, lambda: plain(batch["caption"], **options))
    latents, condition = distiller.encode(batch)
    times = torch.tensor([10, 20])
    ours = calls(distiller.teacher, lambda: guided_sample(distiller, latents, times, condition, torch.full((2,), 3.0)))
    assert (len(theirs), len(ours)) == (1, 2)
    for half, call in zip((slice(2, 4), slice(0, 2)), ours, strict=True):  # the pipeline puts the unconditional half first
        torch.testing.assert_close(call["encoder_hidden_states"], theirs[0]["encoder_hidden_states"][half])
        for name, value in call["added_cond_kwargs"].items():
            torch.testing.assert_close(value, theirs[0]["added_cond_kwargs"][name][half])
    assert not ours[1]["encoder_hidden_states"].any()


def test_the_scale_belongs_to_its_sample(distiller, batch):
    """A batch with two scales is two batches with one each."""
    latents, condition = distiller.encode(batch)
    times, scales = torch.tensor([100, 900]), torch.tensor([2.0, 7.0])
    together = guided_sample(distiller, latents, times, condition, scales)[0]
    for row in (0, 1):
        alone = guided_sample(distiller, latents, times, condition, scales[row].repeat(2))[0]
        torch.testing.assert_close(together[row], alone[row], rtol=1e-5, atol=1e-5)


# The student


def test_a_student_with_an_embedding_starts_as_its_teacher(distiller, batch):
    latents, condition = distiller.encode(batch)
    times = torch.tensor([100, 900])
    with torch.no_grad():
        expected = distiller.teacher(latents, times, **condition).sample
        for scale in (1.0, 7.5):
            heard = distiller.tell_guidance(condition, torch.full((2,), scale))
            torch.testing.assert_close(distiller.student.eval()(latents, times, **heard).sample, expected, rtol=0, atol=0)


def test_the_embedding_is_trained(thin_sdxl, batch):
    distiller = build(thin_sdxl)
    torch.manual_seed(0)
    distiller(**batch)["loss_task"].backward()
    assert distiller.student.time_embedding.cond_proj.weight.grad.abs().max() > 0


def test_the_target_is_what_the_teacher_says_under_guidance(distiller, batch):
    """The losses see the student's prediction type, here with times and scales of their own."""
    torch.manual_seed(3)
    latents, condition = distiller.encode(batch)
    step = distiller.method(distiller, latents, condition)
    torch.manual_seed(3)
    latents, condition = distiller.encode(batch)
    timesteps = torch.randint(1000, (2,))
    noisy = distiller.noise_schedule.add_noise(latents, torch.randn_like(latents), timesteps)
    scales = (1 + 7 * torch.rand(2)).view(-1, 1, 1, 1)
    empty = distiller.replace_captions(condition, ["", ""])
    with torch.no_grad():
        said, nothing = (distiller.teacher(noisy, timesteps, **each).sample for each in (condition, empty))
    torch.testing.assert_close(step.target, nothing + scales * (said - nothing), rtol=1e-3, atol=1e-4)
    assert step.timesteps.equal(timesteps)
    assert not step.target.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_teacher_that_embeds_the_scale_is_asked_once(dtype, distiller, thin_sdxl, batch, tmp_path):
    """As in the halvings that follow guidance distillation; its embedding takes the dtype it is stored in."""
    with torch.no_grad():
        distiller.student.time_embedding.cond_proj.weight.fill_(0.02)
    distiller.student.save_pretrained(tmp_path)
    with torch.no_grad():
        distiller.student.time_embedding.cond_proj.weight.zero_()
    method = dict(type="ProgressiveDistillation", steps=4, guidance_scale=[1, 8])
    after = build(thin_sdxl, method, {}, teacher=dict(denoiser=str(tmp_path)), dtype=dtype)
    assert after.student.config.time_cond_proj_dim == 16, "the student has its teacher's embedding"
    seen = calls(after.teacher, lambda: after(**batch))
    assert len(seen) == 2, "one evaluation for each DDIM step"
    assert seen[0]["timestep_cond"].dtype == getattr(torch, dtype)


# Bad input


@pytest.mark.parametrize("method", ["GuidanceDistillation", "ProgressiveDistillation", "LatentConsistency"])
@pytest.mark.parametrize(
    ("scale", "student", "message"),
    [
        ([1, 8], {}, r"guidance_scale=\[1, 8\]: a student of a range must be told the scale; set model.student.guidance_"),
        (7.5, dict(guidance_embedding=16), r"guidance_scale=7.5: the student embeds the scale, .* give the range"),
        ([8, 1], {}, r"guidance_scale=\[8, 1\]: give a number of 1 or more, or a range \[low, high\]"),
    ],
)
def test_scales_that_do_not_fit_the_student(method, scale, student, message, thin_sdxl):
    options = dict(steps=4) if method == "ProgressiveDistillation" else {}
    with pytest.raises(InputError, match=message):
        check_model(model(thin_sdxl, dict(type=method, guidance_scale=scale, **options), student))


def test_no_embedding_is_advised_where_there_is_no_place_for_one():
    with pytest.raises(InputError, match=r"its denoiser has no place .*, so give a single scale") as e:
        check_model(model("diffdistill::sd3_shapes", student=dict(keep={}), family="StableDiffusion3"))
    assert "guidance_embedding" not in str(e.value)


def test_an_embedding_of_the_teachers_is_not_advised_against(tmp_path):
    told = dict(type="GuidanceDistillation", guidance_scale=3.0)
    with pytest.raises(InputError, match=r"guidance_scale=3.0: the student embeds the scale, .* give the range") as e:
        check_model(model(tiny_transformers.write_flux(tmp_path), told, dict(keep={}), family="Flux"))
    assert "guidance_embedding" not in str(e.value)


@pytest.mark.parametrize("width", [3, 15, "256"])
def test_widths_that_diffusers_cannot_build(width, thin_sdxl):
    with pytest.raises(InputError, match=f"model.student.guidance_embedding={width!r}: give an even number of 4 or more"):
        check_model(model(thin_sdxl, student=dict(guidance_embedding=width)))


def test_an_embedding_of_another_width_than_the_teachers(distiller, thin_sdxl, tmp_path):
    distiller.student.save_pretrained(tmp_path)
    teacher = dict(denoiser=str(tmp_path))
    with pytest.raises(InputError, match="guidance_embedding=32: the teacher has one that is 16 wide; use that"):
        check_model(model(thin_sdxl, student=dict(guidance_embedding=32), teacher=teacher))
    check_model(model(thin_sdxl, student=dict(guidance_embedding=16), teacher=teacher))
