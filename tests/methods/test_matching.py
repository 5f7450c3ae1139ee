"""Distribution matching against Gaussians with known scores, and its backward simulation against stock schedulers."""

import diffusers
import pytest
import torch
from closed_form import SD
from gaussians import Gaussians

from diffdistill.errors import InputError
from diffdistill.losses import MinSNR, TaskLoss
from diffdistill.methods import DistributionMatching
from diffdistill.methods.parts.rollout import add_noise_after_step, roll_out
from diffdistill.step import Turn

KINDS = [("epsilon", "epsilon"), ("epsilon", "v_prediction"), ("v_prediction", "epsilon"), ("flow_prediction",)]
CAPTIONS = dict(caption=torch.zeros(1))


def latents(count, seed=0):
    torch.manual_seed(seed)
    return torch.zeros(count, 2, 4, 4, dtype=torch.double)


def iteration_with(steps, part):
    """An iteration in which the student is trained at the step `part`, counted from the last."""
    for iteration in range(100):
        number = torch.Generator().manual_seed(iteration)
        if steps - int(torch.randint(steps, (), generator=number)) == part:
            return iteration
    raise AssertionError


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [None, 3.0])
@pytest.mark.parametrize("kinds", KINDS)
def test_the_gradient_is_that_of_the_two_scores(kinds, scale, normalize):
    model = Gaussians(kinds)
    method = DistributionMatching(guidance_scale=scale, normalize=normalize)
    captions = torch.tensor([0.3, -0.2, 0.0])
    step = method(model, latents(3), dict(caption=captions))
    real = model.posterior("teacher", step.noisy, step.timesteps)
    real = real + (scale or 1.0) * captions.double().view(-1, 1, 1, 1)  # the empty caption says 0
    fake = model.posterior("fake", step.noisy, step.timesteps)
    gradient = fake - real
    if normalize:
        gradient = gradient / (step.sample - real).abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close((step.sample - step.target).detach(), gradient, rtol=1e-5, atol=1e-6)
    assert not step.target.requires_grad
    (reached,) = torch.autograd.grad(TaskLoss(weight=0.5)(step), step.sample)
    torch.testing.assert_close(reached.double(), gradient / gradient.numel(), rtol=1e-4, atol=1e-7)


def test_scores_are_compared_on_what_the_student_drew():
    """At two times noise of the schedule's deviation lies between the sample and what is compared."""
    model = Gaussians()
    step = DistributionMatching()(model, latents(4000), CAPTIONS)
    alpha, sigma = model.teacher_schedule.coefficients(step.timesteps, step.noisy)
    noise = ((step.noisy - alpha * step.sample) / sigma).detach()
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert int(step.timesteps.min()) == 20
    assert int(step.timesteps.max()) == 979


@pytest.mark.parametrize("match", ["samples", "trajectory"])
@pytest.mark.parametrize("kinds", [KINDS[0], KINDS[-1]])
def test_the_student_becomes_the_teachers_gaussian(kinds, match):
    """With a fake score that knows the student, mean and deviation arrive, by the papers' loss and by a weighted one."""
    model = Gaussians(kinds, teacher=(1.0, 0.5), mean=-0.5, scale=1.0)
    method, loss = DistributionMatching(match=match), TaskLoss(weight=0.5, weighting=dict(type="SNRPlusOne"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for number in range(250):
        model.known["fake"] = float(model.mean), abs(float(model.scale))
        step = method(model, latents(256, seed=number), CAPTIONS)
        optimizer.zero_grad()
        loss(step).backward()
        optimizer.step()
    assert abs(float(model.mean) - 1.0) < 0.05
    assert abs(abs(float(model.scale)) - 0.5) < 0.05


def test_a_weighting_counts_the_time_of_the_comparison():
    model = Gaussians()
    step = DistributionMatching()(model, latents(5), CAPTIONS)
    snr = model.teacher_schedule.snr(step.timesteps)
    torch.testing.assert_close(MinSNR(gamma=5.0)(step).double(), snr.clamp(max=5.0).double())


@pytest.mark.parametrize("kinds", [KINDS[0], KINDS[-1]])
def test_the_fake_score_learns_the_students_pictures(kinds):
    """Its loss is the least where it knows the student's mean and deviation."""

    def loss(mean, deviation):
        model = Gaussians(kinds, fake=(mean, deviation), mean=0.4, scale=0.8)
        return float(DistributionMatching()(model, latents(2000), CAPTIONS).critic_losses["fake_score"])

    best = loss(0.4, 0.8)
    assert best < min(loss(0.3, 0.8), loss(0.5, 0.8), loss(0.4, 0.7), loss(0.4, 0.9))


@pytest.mark.parametrize("kinds", [KINDS[0], KINDS[-1]])
def test_noise_after_a_step_tells_the_score_of_the_states(kinds):
    """A line fitted to the pairs is Tweedie's x_0 = (x_t + sigma_t^2 score) / alpha_t of the noisier states (TDM, eq. 8)."""
    model = Gaussians(kinds, mean=0.4, scale=0.8)
    schedule = model.teacher_schedule
    model.iteration = iteration_with(2, 2)
    with torch.no_grad():
        drawn = roll_out(model, latents(20_000), CAPTIONS, 2, deterministic=True)
    at = schedule.at(torch.tensor([0.8]), drawn.sample)
    seen = add_noise_after_step(schedule, drawn, at.expand(len(drawn.sample)))
    alpha, sigma = (each.flatten() for each in schedule.coefficients(at, drawn.sample))
    state = schedule.ddim_step(drawn.sample, drawn.noisy, drawn.start, drawn.end)
    ratio = alpha / schedule.coefficients(drawn.end[:1], state)[0].flatten()
    mean = ratio * state.mean()
    variance = ratio**2 * state.var() + seen.weights[0] * sigma**2
    torch.testing.assert_close(seen.noisy.var(), variance[0], rtol=0.02, atol=0)
    x, y = seen.noisy.flatten(), seen.origin.flatten()
    slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var()
    expected = (1 - sigma**2 / variance) / alpha
    torch.testing.assert_close(slope, expected[0], rtol=0.03, atol=0.03)
    at_mean = y.mean() + slope * (mean - x.mean())
    torch.testing.assert_close(at_mean[0], (mean / alpha)[0], rtol=0.03, atol=0.03)


def stock(schedule, sampling):
    """The scheduler that `Method.sampling` names, as a pipeline would set it up."""
    options = dict(sampling["scheduler"])
    kind = getattr(diffusers, options.pop("type"))
    noise = SD if schedule.kind == "variance-preserving" else {}
    scheduler = kind(**noise, **schedule.scheduler_changes(kind, ""), **options)
    scheduler.set_timesteps(sampling["num_inference_steps"], **{k: v for k, v in sampling.items() if k == "sigmas"})
    return scheduler


@pytest.mark.parametrize("match", ["samples", "trajectory"])
@pytest.mark.parametrize("kinds", KINDS)
def test_backward_simulation_is_what_the_sampler_does(kinds, match):
    """From the same noise, the same latents at the last of four times, and the same picture."""
    model, method, steps = Gaussians(kinds).float(), DistributionMatching(steps=4, match=match), 4
    model.iteration = iteration_with(steps, 1)
    with torch.no_grad():
        drawn = roll_out(model, latents(3).float(), CAPTIONS, steps, deterministic=method.follows)
    scheduler = stock(model.noise_schedule, method.sampling(model))
    noisy = torch.randn_like(latents(3).float())
    close = 2e-3 if kinds == KINDS[-1] and method.follows else 1e-5  # DPM-Solver rounds the times of flows
    for number, timestep in enumerate(scheduler.timesteps):
        if number == steps - 1:
            torch.testing.assert_close(noisy, drawn.noisy, rtol=0, atol=close)
        prediction = model.predict_student(noisy, timestep.expand(3), CAPTIONS)
        noisy = scheduler.step(prediction, timestep, noisy).prev_sample
    torch.testing.assert_close(noisy, drawn.sample, rtol=0, atol=close)


def test_every_step_of_the_student_is_trained_and_ranks_agree_on_it():
    model, seen = Gaussians(), set()
    for model.iteration in range(40):
        drawn = roll_out(model, latents(2, seed=model.iteration), CAPTIONS, 4, deterministic=False)
        other = roll_out(model, latents(2, seed=1000), CAPTIONS, 4, deterministic=False)
        assert other.start.tolist() == drawn.start.tolist()
        seen.add(int(drawn.start[0]))
    assert seen == {249, 499, 749, 999}


def test_turns_follow_from_the_update():
    method = DistributionMatching(ratio=3)
    assert [method.turn(update).student for update in range(6)] == [False, False, True, False, False, True]
    assert all(method.turn(update).critics for update in range(6))
    later = DistributionMatching(ratio=2, warmup=2)
    assert [later.turn(update).student for update in range(6)] == [False, False, False, True, False, True]
    model = Gaussians()
    model.turn = Turn(student=False)
    step = method(model, latents(2), CAPTIONS)
    assert step.prediction is step.target is None
    assert not step.sample.requires_grad
    assert step.critic_losses.keys() == {"fake_score"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(ratio=0), ["model.method.ratio=0", "1 or more"]),
        (dict(steps=0), ["model.method.steps=0", "1 or more"]),
        (dict(warmup=-1), ["model.method.warmup=-1", "0 or more"]),
        (dict(match="states"), ["model.method.match='states'", "'trajectory'"]),
        (dict(match="trajectory", timesteps=dict(type="UniformTimesteps")), ["model.method.timesteps", "within each step"]),
        (dict(guidance_scale=0.5), ["model.method.guidance_scale=0.5"]),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(InputError) as refused:
        DistributionMatching(**options)
    assert all(word in str(refused.value) for word in words)
