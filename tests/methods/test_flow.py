"""Progressive and consistency distillation under flow matching, against solvers written by hand."""

import pytest
import torch
from closed_form import ClosedForm
from tiny_transformers import write_sd3

from diffdistill.methods import DenoisingKD, GuidanceDistillation, LatentConsistency, ProgressiveDistillation
from diffdistill.noise import FlowMatching
from diffdistill.registry import MODELS

CAPTIONS = torch.tensor([1.0, -2.0, 0.5], dtype=torch.double)


class Flow(ClosedForm):
    """The closed form, whose teacher says a velocity; its student says another one."""

    def __init__(self, shift=1.0):
        self.noise_schedule = self.teacher_schedule = FlowMatching(shift)

    def predict_student(self, noisy, timesteps, condition, averaged=False):
        return (-0.2 if averaged else 0.5) * noisy * torch.cos(timesteps.double() / 50).view(-1, 1, 1, 1)

    def take_step(self, noisy, timesteps, condition, target, teacher_prediction=None, teacher_features=None):
        step = super().take_step(noisy, timesteps, condition, target)
        step.prediction = self.predict_student(noisy, timesteps, condition)
        return step

    def guided(self, noisy, sigma, captions, scale):
        """The velocity at one sigma under guidance."""
        times = torch.full((len(noisy),), 1000 * sigma, dtype=torch.double)
        said, nothing = (self.predict_teacher(noisy, times, dict(caption=each))[0] for each in (captions, torch.zeros(1)))
        return said if scale is None else nothing + scale * (said - nothing)


def shifted(u, shift):
    return shift * u / (1 + (shift - 1) * u)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize(("steps", "substeps"), [(4, 2), (1, 2), (3, 5), (2, 1)])
def test_one_progressive_step_is_the_teachers_euler_steps(shift, scale, steps, substeps):
    """v* = (z_s - z_t) / (s - t), at every time of the grid, in float64."""
    model, method = Flow(shift), ProgressiveDistillation(steps, substeps, guidance_scale=scale)
    noisy = torch.randn(3, 4, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    for i in range(1, steps + 1):
        part = torch.full((3,), i)
        timesteps = model.noise_schedule.grid(part.double(), steps, noisy)
        scales = None if scale is None else torch.full((3,), scale, dtype=torch.double)
        sample, _ = method.target(model, noisy, part.double(), dict(caption=CAPTIONS), scales)
        target = model.noise_schedule.from_sample(sample, noisy, timesteps)
        z, now = noisy, shifted(i / steps, shift)
        first = now
        for substep in range(1, substeps + 1):
            later = shifted((i - substep / substeps) / steps, shift)
            z, now = z + (later - now) * model.guided(z, now, CAPTIONS, scale), later
        torch.testing.assert_close(target, (z - noisy) / (now - first), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("target", ["average", "student"])
def test_the_consistency_target_is_the_target_networks_picture_after_one_guided_euler_step(target):
    torch.manual_seed(0)
    model, scale = Flow(3.0), 3.0
    captions, latents = torch.randn(300, dtype=torch.double), torch.randn(300, 4, 2, 2, dtype=torch.double)
    step = LatentConsistency(scale, grid=50, target=target)(model, latents, dict(caption=captions))
    grid = torch.tensor([shifted(i / 50, 3.0) for i in range(51)], dtype=torch.double)
    nearest = (step.timesteps.double()[:, None] / 1000 - grid).abs().argmin(1)
    assert nearest.unique().tolist() == list(range(1, 51))
    for row in range(0, 300, 30):
        z, captioned, i = step.noisy[row : row + 1], captions[row : row + 1], nearest[row]
        now, later = (step.timesteps[row] / 1000).double(), grid[i - 1]
        nearer = z + (later - now) * model.guided(z, now, captioned, scale)
        theirs = nearer - later * model.predict_student(nearer, later.view(1) * 1000, {}, averaged=target == "average")
        torch.testing.assert_close(step.target[row : row + 1], theirs, rtol=1e-4, atol=1e-4)  # sigmas are fp32
        ours = z - now * model.predict_student(z, step.timesteps[row : row + 1], {})
        torch.testing.assert_close(step.prediction[row : row + 1].double(), ours, rtol=1e-4, atol=1e-4)


def test_at_the_last_time_the_consistency_target_is_clean():
    """f(z, 0) = z without c_skip, as a velocity moves nothing there."""
    torch.manual_seed(0)
    model = Flow()
    step = LatentConsistency(1.0, grid=1, steps=1, target="student")(
        model, torch.randn(3, 4, 2, 2).double(), dict(caption=CAPTIONS)
    )
    assert step.timesteps.tolist() == [1000.0] * 3
    torch.testing.assert_close(step.target, step.noisy - model.guided(step.noisy, 1.0, CAPTIONS, None))


@pytest.mark.parametrize("method", [DenoisingKD(), GuidanceDistillation(3.0)])
def test_times_are_continuous(method):
    model = Flow()
    model.take_compared_step = model.take_step
    torch.manual_seed(0)
    step = method(model, torch.randn(3, 4, 2, 2).double(), dict(caption=CAPTIONS))
    assert step.timesteps.is_floating_point()
    assert (step.timesteps % 1 != 0).any()
    assert ((step.timesteps > 0) & (step.timesteps <= 1000)).all()


def test_a_consistency_student_of_flows_draws_the_same_pictures_for_the_same_seeds(tmp_path):
    """SD3's pipeline hands its generators to no scheduler, and FlowMatchLCMScheduler renoises."""
    folder = write_sd3(tmp_path / "sd3", num_layers=2)
    model = MODELS.build(
        dict(
            type="Distiller",
            teacher=dict(type="StableDiffusion3", checkpoint=str(folder), max_sequence_length=2),
            method=dict(type="LatentConsistency", guidance_scale=3.0, steps=2),
            losses=dict(task=dict(type="TaskLoss")),
        )
    )
    before = torch.get_rng_state()
    one, two, other = (model.sample(["a dog"], [seed]) for seed in (3, 3, 4))
    assert (one == two).all()
    assert (one != other).any()
    assert torch.equal(torch.get_rng_state(), before)
