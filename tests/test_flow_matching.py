"""Flow matching: coefficients, the shift and the grids of samplers, against diffusers and against arithmetic by hand."""

import math

import diffusers
import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.losses import DebiasedEstimation, MinSNR, SNRPlusOne, SoftMinSNR, TaskLoss, TruncatedSNR
from diffdistill.methods.parts.timesteps import (
    BiasedTimesteps,
    CosMapTimesteps,
    CubicTimesteps,
    LogitNormalTimesteps,
    ModeTimesteps,
    UniformTimesteps,
)
from diffdistill.noise import FlowMatching, ResolutionShift, VariancePreserving
from diffdistill.step import Step

FLUX = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
LATENTS = torch.zeros(3, 4, 8, 8)
COUNT = 40_000


def drawn(part, schedule, count=COUNT):
    """The shares of the way to noise that `part` draws, sorted."""
    torch.manual_seed(0)
    return part(schedule, torch.zeros(count, 1, 2, 2)).double().sort().values / len(schedule)


def test_noisy_latents_and_targets_are_those_of_diffusers():
    scheduler, schedule = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), FlowMatching(3.0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = scheduler.timesteps[[0, 400, 999]]
    noisy = schedule.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy, scheduler.scale_noise(latents, timesteps, noise))
    target = schedule.target(latents, noise, timesteps)
    assert torch.equal(target, noise - latents)
    torch.testing.assert_close(schedule.to_sample(target, noisy, timesteps), latents)
    torch.testing.assert_close(schedule.from_sample(latents, noisy, timesteps), target, atol=1e-3, rtol=1e-3)


def test_a_step_is_eulers():
    """z' = z + (s' - s) v."""
    schedule = FlowMatching()
    noisy, velocity = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    now, later = torch.tensor([1000.0, 500, 20]), torch.tensor([800.0, 0, 10])
    reached = schedule.ddim_step(schedule.to_sample(velocity, noisy, now), noisy, now, later)
    torch.testing.assert_close(reached, noisy + ((later - now) / 1000).view(-1, 1, 1, 1) * velocity, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_the_grid_is_that_of_the_sampler_of_few_steps(shift, steps):
    """The solver's sigmas begin at 0.999 of the way, as all of its kind do."""
    schedule = FlowMatching(shift)
    changes = schedule.one_step_sampler(steps)
    kind = getattr(diffusers, changes.pop("type"))
    scheduler = kind(**changes, **schedule.scheduler_changes(kind, "here"))
    scheduler.set_timesteps(steps)
    grid = schedule.grid(torch.arange(steps, -1, -1), steps, LATENTS) / 1000
    assert grid[0] == 1
    assert grid[-1] == 0
    torch.testing.assert_close(scheduler.sigmas, grid, atol=2.5e-3, rtol=0)


def test_grids_of_halved_steps_lie_in_each_other():
    schedule = FlowMatching(3.0)
    four, eight = (schedule.grid(torch.arange(steps + 1), steps, LATENTS) for steps in (4, 8))
    assert torch.equal(four, eight[::2])


def test_the_solver_steps_straight_to_clean_latents():
    """So that four steps are four, where diffusers' Euler scheduler spends its last one near 0."""
    schedule = FlowMatching(1.0)
    changes = schedule.one_step_sampler(4)
    kind = getattr(diffusers, changes.pop("type"))
    scheduler = kind(**changes, **schedule.scheduler_changes(kind, "here"))
    scheduler.set_timesteps(4)
    z = expected = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    sigmas = scheduler.sigmas.tolist()
    for i, timestep in enumerate(scheduler.timesteps):
        velocity = torch.sin(3 * z)
        expected = expected + (sigmas[i + 1] - sigmas[i]) * torch.sin(3 * expected)
        z = scheduler.step(velocity, timestep, z).prev_sample
    torch.testing.assert_close(z, expected, atol=1e-4, rtol=1e-4)


def test_the_consistency_sampler_ends_one_step_from_clean():
    schedule = FlowMatching(3.0)
    changes = schedule.consistency_sampler(4, 50)
    kind = getattr(diffusers, changes.pop("type"))
    scheduler = kind(**changes, **schedule.scheduler_changes(kind, "here"))
    scheduler.set_timesteps(4)
    assert scheduler.sigmas[0] == 1
    assert scheduler.sigmas[-2].item() == pytest.approx(3 * 0.25 / (1 + 2 * 0.25))
    assert schedule.consistency_sampler(1, 50)["shift_terminal"] is None


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 64), (96, 160)])
def test_the_shift_by_resolution_is_the_pipelines(height, width):
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    schedule = FlowMatching(ResolutionShift.from_config(FLUX.config, patch=2), sigmas_given=True)
    mu = calculate_shift((height // 2) * (width // 2), 256, 4096, 0.5, 1.15)
    FLUX.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25], mu=mu)
    grid = schedule.grid(torch.arange(4, -1, -1), 4, torch.zeros(1, 16, height, width))
    torch.testing.assert_close(grid / 1000, FLUX.sigmas)
    assert schedule.one_step_sampler(4)["type"] == "FlowMatchEulerDiscreteScheduler"


# Densities


def logit_normal(x, mean, std):
    return 0.5 * (1 + math.erf((math.log(x / (1 - x)) - mean) / std / math.sqrt(2)))


@pytest.mark.parametrize("x", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize(
    ("part", "distribution"),
    [
        (UniformTimesteps(), lambda x: x),
        (UniformTimesteps(200, 600), lambda x: min(max((x - 0.2) / 0.4, 0), 1)),
        (BiasedTimesteps("later", portion=0.5), lambda x: x / 1.5 if x < 0.5 else (0.5 + 2 * (x - 0.5)) / 1.5),
        (CubicTimesteps(), lambda x: 1 - (1 - x) ** (1 / 3)),
        (LogitNormalTimesteps(), lambda x: logit_normal(x, 0, 1)),
        (LogitNormalTimesteps(mean=0.5, std=0.7), lambda x: logit_normal(x, 0.5, 0.7)),
        # density 2 / (pi - 2 pi t + 2 pi t^2), integrated
        (CosMapTimesteps(), lambda x: 0.5 + 2 / math.pi * math.atan(2 * x - 1)),
        (ModeTimesteps(scale=0.0), lambda x: x),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("schedule", [FlowMatching(), VariancePreserving(torch.linspace(0.999, 0.005, 1000))])
def test_densities_have_their_distribution_functions(part, distribution, x, schedule):
    share = (drawn(part, schedule) < x).double().mean().item()
    assert share == pytest.approx(distribution(x), abs=4.5 / math.sqrt(COUNT))


@pytest.mark.parametrize("scale", [-0.9, 1.29, 1.75])
def test_mode_sampling_is_that_of_its_paper(scale):
    """Quantiles: f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) falls with u, so the share below f(u) is 1 - u."""
    found = drawn(ModeTimesteps(scale), FlowMatching())
    for u in (0.1, 0.4, 0.7, 0.95):
        quantile = 1 - u - scale * (math.cos(math.pi / 2 * u) ** 2 - 1 + u)
        assert (found < quantile).double().mean().item() == pytest.approx(1 - u, abs=4.5 / math.sqrt(COUNT))


def test_the_shift_moves_what_was_drawn_towards_noise():
    """P(s < x) of shifted uniform times, s = shift u / (1 + (shift - 1) u), is x / (shift - (shift - 1) x)."""
    shares = drawn(UniformTimesteps(), FlowMatching(3.0))
    for x in (0.2, 0.5, 0.9):
        assert (shares < x).double().mean().item() == pytest.approx(x / (3 - 2 * x), abs=4.5 / math.sqrt(COUNT))
    plain, own = (drawn(LogitNormalTimesteps(shift=shift), FlowMatching(3.0), 100) for shift in (1.0, None))
    torch.testing.assert_close(own, 3 * plain / (1 + 2 * plain))


# Weightings


@pytest.mark.parametrize("part", [MinSNR(), SoftMinSNR(), DebiasedEstimation(), TruncatedSNR(), SNRPlusOne()])
def test_a_weighting_means_the_same_error_of_the_picture(part):
    """Its factor on the error of the velocity is w_x s^2, as the error of x_0 is s times as large."""
    schedule, timesteps = FlowMatching(), torch.tensor([50.0, 300, 500, 900])
    sigma = timesteps / 1000
    step = Step(None, timesteps, None, None, schedule)
    torch.testing.assert_close(part(step), part.of_sample(((1 - sigma) / sigma) ** 2) * sigma**2, rtol=1e-4, atol=0)


def test_at_both_ends_a_weighted_loss_is_finite():
    schedule, timesteps = FlowMatching(), torch.tensor([0.0, 1000.0])
    prediction, target = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for kind in ("MinSNR", "SoftMinSNR", "DebiasedEstimation", "TruncatedSNR", "SNRPlusOne"):
        assert TaskLoss(weighting=dict(type=kind))(Step(target, timesteps, prediction, target, schedule)).isfinite()


# What has no meaning


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_other_predictions_have_no_meaning(prediction_type):
    with pytest.raises(InputError, match=f"prediction_type '{prediction_type}' is not supported by a flow-matching"):
        FlowMatching().predicting(prediction_type)


@pytest.mark.parametrize(
    ("schedule", "kind", "message"),
    [
        (FlowMatching(), "DDIMScheduler", "key=DDIMScheduler does not sample flow matching; use FlowMatchEuler"),
        (FlowMatching(), "LCMScheduler", "key=LCMScheduler does not sample flow matching"),
        (
            VariancePreserving(torch.ones(10) / 2),
            "FlowMatchEulerDiscreteScheduler",
            "key=FlowMatchEulerDiscreteScheduler samples flow matching, and this pipeline predicts epsilon",
        ),
    ],
)
def test_a_scheduler_of_the_wrong_kind_is_refused(schedule, kind, message):
    with pytest.raises(InputError, match=message):
        schedule.scheduler_changes(getattr(diffusers, kind), "key")
