"""A student at the times of its own few steps."""

import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.methods.grid import GridDenoising
from diffdistill.models.distiller import Distiller

TASK = dict(task=dict(type="TaskLoss"))


@pytest.mark.parametrize(("steps", "times"), [(1, {999}), (2, {499, 999}), (4, {249, 499, 749, 999})])
def test_the_student_denoises_at_its_own_times(tiny_sd, steps, times):
    teacher = dict(type="StableDiffusion", checkpoint=str(tiny_sd))
    model = Distiller(teacher=teacher, method=dict(type="GridDenoising", steps=steps), losses=TASK)
    latents = torch.randn(32, 4, 4, 4)
    condition = model.encode(dict(pixel_values=torch.zeros(32, 3, 32, 32), caption=["a dog"] * 32))[1]
    step = model.method(model, latents, condition)
    assert set(step.timesteps.tolist()) == times
    sample = step.schedule.to_sample(step.target, step.noisy, step.timesteps)
    torch.testing.assert_close(sample, latents, rtol=1e-3, atol=1e-3)
    assert step.prediction.requires_grad
    assert step.teacher_prediction is None
    sampling = model.student_sampling
    assert sampling["num_inference_steps"] == steps
    assert sampling["scheduler"]["type"] == ("DDIMScheduler" if steps == 1 else "LCMScheduler")
    scheduler = model.exported_scheduler()
    scheduler.set_timesteps(steps)
    assert set(scheduler.timesteps.tolist()) == times


@pytest.mark.parametrize("steps", [0, 1.5])
def test_no_number_of_steps(steps):
    with pytest.raises(InputError, match=rf"^model\.method\.steps={steps}: give a whole number of 1 or more$"):
        GridDenoising(steps)


def test_steps_that_do_not_divide_the_schedule(tiny_sd):
    with pytest.raises(InputError, match=r"^model\.method\.steps=3 does not divide 1000 timesteps; "):
        Distiller(
            teacher=dict(type="StableDiffusion", checkpoint=str(tiny_sd)),
            method=dict(type="GridDenoising", steps=3),
            losses=TASK,
        )
