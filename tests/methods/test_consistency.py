"""Latent consistency distillation: its boundary, its target against diffusers' solver, and its target network."""

import copy
from types import SimpleNamespace

import diffusers
import pytest
import runs
import torch
from closed_form import SD, ClosedForm
from mmengine.hooks import Hook

from diffdistill.config.check import check, check_model
from diffdistill.config.read import find_config, load_config
from diffdistill.engine.runner import model_of
from diffdistill.errors import InputError
from diffdistill.methods import LatentConsistency
from diffdistill.methods.consistency import boundary, consistency
from diffdistill.models.distiller import Distiller
from diffdistill.registry import HOOKS

EVERY_TIME = torch.arange(1000)


# The boundary


def test_at_zero_the_consistency_function_is_the_identity():
    torch.manual_seed(0)
    noisy, sample = torch.randn(2, 3, 4, 8, 8)
    result = consistency(sample, noisy, torch.tensor([0, 0, 500]), ClosedForm().noise_schedule)
    torch.testing.assert_close(result[:2], noisy[:2], rtol=0, atol=0)
    assert not torch.allclose(result[2], noisy[2])


def test_scalings_are_those_of_the_scheduler():
    scheduler = diffusers.LCMScheduler(**SD)
    skip, out = boundary(EVERY_TIME)
    assert skip.shape == out.shape == (1000, 1, 1, 1)
    theirs = [scheduler.get_scalings_for_boundary_condition_discrete(time) for time in range(1000)]
    ours = torch.cat([skip, out], dim=1)[..., 0, 0]
    torch.testing.assert_close(ours, torch.tensor(theirs, dtype=torch.double), rtol=1e-12, atol=1e-15)


# The target


Untold = SimpleNamespace(embeds_guidance=False, noise_schedule=ClosedForm().noise_schedule)


class WithAverage(ClosedForm):
    """Whose student and average each say something of their own, which depends on the latents and the time."""

    def predict_student(self, noisy, timesteps, condition, averaged=False):
        return (-0.2 if averaged else 0.5) * noisy * torch.cos(timesteps.double() / 50).view(-1, 1, 1, 1)

    def take_step(self, noisy, timesteps, condition, target, teacher_prediction=None, teacher_features=None):
        step = super().take_step(noisy, timesteps, condition, target)
        step.prediction = self.predict_student(noisy, timesteps, condition)
        return step


@pytest.mark.parametrize("target", ["average", "student"])
@pytest.mark.parametrize("types", [("epsilon", "epsilon"), ("v_prediction", "v_prediction"), ("epsilon", "v_prediction")])
def test_target_is_the_target_network_after_one_guided_ddim_step(types, target):
    """At every time of the grid, in float64; the step from 19 ends at 0, not at clean data, as in diffusers' scripts."""
    torch.manual_seed(0)
    distiller, scale = WithAverage(*types), 3.0
    captions = torch.randn(400, dtype=torch.double)
    latents = torch.randn(400, 4, 2, 2, dtype=torch.double)
    step = LatentConsistency(scale, target=target)(distiller, latents, dict(caption=captions))
    assert step.timesteps.unique().tolist() == list(range(19, 1000, 20))

    solver = diffusers.DDIMScheduler(
        **SD, prediction_type=types[0], timestep_spacing="trailing", set_alpha_to_one=False, clip_sample=False
    )
    solver.alphas_cumprod, solver.final_alpha_cumprod = solver.alphas_cumprod.double(), solver.alphas_cumprod[0].double()
    solver.set_timesteps(50)
    said, nothing = (
        distiller.predict_teacher(step.noisy, step.timesteps, dict(caption=each))[0] for each in (captions, torch.zeros(1))
    )
    guided = nothing + scale * (said - nothing)
    rows = zip(guided, step.timesteps.tolist(), step.noisy, strict=True)
    nearer = torch.stack([solver.step(each, time, noisy).prev_sample for each, time, noisy in rows])
    later = (step.timesteps - 20).clamp(min=0)
    alpha = solver.alphas_cumprod[later].sqrt().view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()

    def x0(prediction, noisy, alpha, sigma):
        return (noisy - sigma * prediction) / alpha if types[1] == "epsilon" else alpha * noisy - sigma * prediction

    theirs = x0(distiller.predict_student(nearer, later, {}, averaged=target == "average"), nearer, alpha, sigma)
    scaled = 10.0 * later.double().view(-1, 1, 1, 1)
    expected = 0.25 / (scaled**2 + 0.25) * nearer + scaled / (scaled**2 + 0.25).sqrt() * theirs
    torch.testing.assert_close(step.target, expected, rtol=1e-9, atol=1e-11)

    alpha = solver.alphas_cumprod[step.timesteps].sqrt().view(-1, 1, 1, 1)
    ours = x0(distiller.predict_student(step.noisy, step.timesteps, {}), step.noisy, alpha, (1 - alpha**2).sqrt())
    skip, out = boundary(step.timesteps)
    torch.testing.assert_close(step.prediction, skip * step.noisy + out * ours, rtol=1e-4, atol=1e-4)  # in fp32


def test_the_grid_is_the_schedulers():
    """So that training and sampling mean the same times by one step."""
    method = LatentConsistency(7.5, grid=25)
    changes = dict(method.sampling(Untold)["scheduler"])
    scheduler = getattr(diffusers, changes.pop("type"))(**SD, **changes)
    scheduler.set_timesteps(25)
    torch.manual_seed(0)
    step = method(WithAverage(), torch.randn(300, 4, 1, 1), dict(caption=torch.ones(300)))
    assert step.timesteps.unique().tolist() == sorted(scheduler.timesteps.tolist())


# The student and its average


def options(folder, **changes) -> dict:
    return (
        dict(
            teacher=dict(type="StableDiffusionXL", checkpoint=str(folder)),
            student=dict(guidance_embedding=16),
            method=dict(type="LatentConsistency", guidance_scale=[1, 8]),
            losses=dict(task=dict(type="TaskLoss")),
        )
        | changes
    )


@pytest.fixture
def batch():
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).repeat(2, 1)
    return dict(pixel_values=pictures, caption=["a red circle", "a dog"], time_ids=sizes)


@pytest.mark.parametrize("target", ["average", "student"])
def test_gradients_flow_through_the_student_alone(thin_sdxl, batch, target):
    method = dict(type="LatentConsistency", guidance_scale=[1, 8], target=target)
    distiller = Distiller(**options(thin_sdxl, method=method))
    average = copy.deepcopy(distiller.student)
    distiller.get_average = lambda: average
    step = distiller.method(distiller, *distiller.encode(batch))
    assert not step.target.requires_grad
    assert step.prediction.requires_grad
    distiller(**batch)["loss_task"].backward()
    assert all(parameter.grad is not None for parameter in distiller.student.parameters())
    assert all(parameter.grad is None for model in (average, distiller.teacher) for parameter in model.parameters())


def test_the_average_is_the_target(thin_sdxl, batch):
    distiller = Distiller(**options(thin_sdxl))
    average = copy.deepcopy(distiller.student)
    distiller.get_average = lambda: average

    def target():
        torch.manual_seed(0)
        return distiller.method(distiller, *distiller.encode(batch)).target

    before = target()
    with torch.no_grad():
        distiller.student.conv_out.bias += 1
    torch.testing.assert_close(target(), before, rtol=0, atol=0)
    with torch.no_grad():
        average.conv_out.bias += 1
    assert not torch.equal(target(), before)


@HOOKS.register_module()
class Keep(Hook):
    """Keeps what the student was after every step, and what the target network is in the end."""

    priority = "VERY_LOW"  # after the average has been updated

    def before_train(self, runner):
        self.students, Keep.last = [], self

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        distiller = model_of(runner)
        self.students.append(distiller.student.conv_in.weight.detach().clone())
        self.average = distiller.average.conv_in.weight.detach().clone()


def test_the_target_network_is_the_moving_average(thin_sdxl, tmp_path):
    """a <- 0.7 a + 0.3 w after every step; the first one is a copy."""
    file = tmp_path / "consistency.py"
    file.write_text(
        f'_base_ = ["{find_config("small_sd_xl_shapes")}"]\n'
        "model = dict(student=dict(guidance_embedding=16), losses=dict(output=None, feature=None),\n"
        '    method=dict(type="LatentConsistency", guidance_scale=[1, 8]))\n'
        'default_hooks = dict(ema=dict(type="TargetEMAHook", momentum=0.3))\n'
        'custom_hooks = [dict(type="Keep")]\n'
    )
    runs.trained(file, tmp_path / "run", runs.shapes(thin_sdxl, train_cfg__max_iters=4))
    students, average = Keep.last.students, Keep.last.students[0]
    assert len(students) == 4
    for weights in students[1:]:
        average = 0.7 * average + 0.3 * weights
    torch.testing.assert_close(Keep.last.average, average)
    assert not torch.allclose(average, students[-1], rtol=0, atol=1e-6)
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "run" / "unet")
    torch.testing.assert_close(unet.conv_in.weight.data, average)


# Bad input


def test_without_an_average_it_is_refused_before_anything_is_loaded(thin_sdxl, tmp_path):
    config = load_config("small_sd_xl_shapes", work_dir=str(tmp_path / "run"))
    config.model = dict(type="Distiller", **options(thin_sdxl))
    with pytest.raises(InputError, match=r"needs a moving average .* default_hooks.ema=dict\(type='TargetEMAHook'"):
        check(config)
    config.model.method.target = "student"
    check(config)
    config.model.method.target = "average"
    config.default_hooks.ema = dict(type="EMAHook", momentum=0.05)
    with pytest.raises(InputError, match="TargetEMAHook"):
        check(config)
    config.default_hooks.ema.type = "TargetEMAHook"
    check(config)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (dict(grid=30), "model.method.grid=30 does not divide 1000 timesteps; use one of 1, 2"),
        (dict(grid=0), "model.method.grid=0: give a whole number of 1 or more"),
        (dict(target="teacher"), "model.method.target='teacher' is unknown; use 'average' or 'student'"),
        (dict(steps=51), r"model.method.steps=51: the sampler takes 1 to 50 \(model.method.grid\) steps"),
        (dict(steps=0), "model.method.steps=0: the sampler takes 1 to 50"),
    ],
)
def test_bad_numbers(method, message, thin_sdxl):
    method = dict(type="LatentConsistency", guidance_scale=[1, 8], **method)
    with pytest.raises(InputError, match=message):
        check_model(dict(type="Distiller", **options(thin_sdxl, method=method)))


def test_an_adapter_learns_all_scales_without_being_told(thin_sdxl):
    method = dict(type="LatentConsistency", guidance_scale=[1, 8], target="student")
    plan = check_model(dict(type="Distiller", **options(thin_sdxl, method=method, student={})))
    assert plan.student_sampling["guidance_scale"] == 1.0
    assert check_model(dict(type="Distiller", **options(thin_sdxl))).student_sampling["guidance_scale"] == 4.5


def test_the_sampler_of_a_teacher_that_clips_pixels_does_not_clip_latents(tmp_path, tiny_sd_v):
    """A checkpoint may name a scheduler of pixel models, whose config says clip_sample."""
    distiller = Distiller(**options(tiny_sd_v, teacher=dict(type="StableDiffusion", checkpoint=str(tiny_sd_v))))
    distiller.frozen.pipeline.scheduler = diffusers.DDPMScheduler(**SD, clip_sample=True)
    assert not distiller.exported_scheduler().config.clip_sample
