"""Progressive distillation: its target against diffusers' own DDIM steps, and what it refuses."""

import pytest
import torch
from closed_form import ClosedForm, ddim

from diffdistill.config.check import check_model
from diffdistill.errors import InputError
from diffdistill.methods import ProgressiveDistillation

TYPES = ["epsilon", "v_prediction"]
CAPTIONS = torch.tensor([1.0, -2.0, 0.5])


def grid_batch(count):
    """The same three latents at every grid time, and the grid times."""
    timesteps = torch.arange(1, count + 1) * (1000 // count) - 1
    noisy = torch.randn(3, 4, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    return noisy.repeat(count, 1, 1, 1), timesteps.repeat_interleave(3), CAPTIONS.repeat(count)


def teacher_steps(distiller, noisy, timestep, captions, steps, count, scale=None):
    """`count` steps of diffusers' DDIM on the grid of `steps`, from `noisy` at `timestep`."""
    scheduler = ddim(distiller.teacher_schedule.prediction_type, steps)
    for _ in range(count):
        batch = torch.full((len(noisy),), timestep)
        prediction = distiller.predict_teacher(noisy, batch, dict(caption=captions))[0]
        if scale:
            empty = distiller.predict_teacher(noisy, batch, dict(caption=torch.zeros(1)))[0]
            prediction = empty + scale * (prediction - empty)
        noisy = scheduler.step(prediction, timestep, noisy).prev_sample
        timestep -= 1000 // steps
    return noisy


@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize(("steps", "substeps"), [(4, 2), (1, 2), (8, 5), (2, 1)])
@pytest.mark.parametrize("student_type", TYPES)
@pytest.mark.parametrize("teacher_type", TYPES)
def test_one_step_with_the_target_is_the_teachers_steps(teacher_type, student_type, steps, substeps, scale):
    """At every grid time, the last one included, in float64."""
    distiller = ClosedForm(teacher_type, student_type)
    method = ProgressiveDistillation(steps, substeps, guidance_scale=scale)
    noisy, timesteps, captions = grid_batch(steps)
    scales = None if scale is None else torch.full((len(noisy),), scale, dtype=torch.double)
    sample, _ = method.target(distiller, noisy, (timesteps + 1) * steps // 1000, dict(caption=captions), scales)
    target = distiller.noise_schedule.from_sample(sample, noisy, timesteps)
    for timestep in timesteps.unique().tolist():
        rows = timesteps == timestep
        reached = ddim(student_type, steps).step(target[rows], timestep, noisy[rows]).prev_sample
        expected = teacher_steps(distiller, noisy[rows], timestep, CAPTIONS, steps * substeps, substeps, scale)
        torch.testing.assert_close(reached, expected, rtol=0, atol=1e-12)


def test_training_draws_every_grid_time_and_no_other():
    torch.manual_seed(0)
    latents = torch.randn(200, 4, 2, 2)
    step = ProgressiveDistillation(4)(ClosedForm(), latents, dict(caption=torch.ones(200)))
    assert step.timesteps.unique().tolist() == [249, 499, 749, 999]


def test_empty_captions_are_encoded_once_a_step(monkeypatch):
    distiller, calls = ClosedForm(), []
    encode = distiller.replace_captions
    monkeypatch.setattr(distiller, "replace_captions", lambda *args: calls.append(args) or encode(*args))
    latents = torch.randn(3, 4, 2, 2)
    ProgressiveDistillation(4, substeps=5, guidance_scale=3.0)(distiller, latents, dict(caption=CAPTIONS))
    assert len(calls) == 1


def model(thin_sdxl, method, **student):
    return dict(
        type="Distiller",
        teacher=dict(type="StableDiffusionXL", checkpoint=str(thin_sdxl)),
        student=student,
        method=dict(type="ProgressiveDistillation", **method),
        losses=dict(task=dict(type="TaskLoss")),
    )


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (dict(steps=16), r"model.method.steps=16 does not divide 1000 timesteps; use one of 1, 2, 4, 5, 8, 10"),
        (dict(steps=0), r"model.method.steps=0: give a whole number of 1 or more"),
        (dict(steps=500, substeps=3), r"model.method.substeps=3: one of 500 steps spans 2 timesteps"),
        (dict(steps=4, guidance_scale=0.5), r"model.method.guidance_scale=0.5: give a number of 1 or more"),
        (dict(steps=4, guidance_scale=[1, 4]), r"must be told the scale; set model.student.guidance_embedding=256"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_loaded(thin_sdxl, method, message):
    with pytest.raises(InputError, match=message.replace("[", r"\[").replace("]", r"\]")):
        check_model(model(thin_sdxl, method))


def test_a_student_that_embeds_the_scale_needs_one(thin_sdxl):
    with pytest.raises(InputError, match=r"model.method.guidance_scale is missing"):
        check_model(model(thin_sdxl, dict(steps=4), guidance_embedding=16))
