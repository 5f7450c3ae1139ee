"""Weightings against their papers' formulas, written out for each kind of prediction."""

import diffusers
import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.losses import DebiasedEstimation, MinSNR, OutputKD, SNRPlusOne, SoftMinSNR, TaskLoss, TruncatedSNR
from diffdistill.noise import VariancePreserving
from diffdistill.step import Step

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
WEIGHTINGS = [MinSNR(), MinSNR(1.5), SoftMinSNR(), DebiasedEstimation(), TruncatedSNR(), SNRPlusOne()]
TIMESTEPS = torch.tensor([0, 100, 400, 700, 999])


def schedule(prediction_type="epsilon", **changes):
    return VariancePreserving.from_scheduler(diffusers.DDPMScheduler(**SD, prediction_type=prediction_type, **changes))


def step(prediction_type="epsilon", timesteps=TIMESTEPS, seed=0, **changes):
    """Random latents, and a random guess at them as the student's prediction."""
    noises = schedule(prediction_type, **changes)
    generator = torch.Generator().manual_seed(seed)
    latents, noise, guess = torch.randn(3, len(timesteps), 4, 3, 3, generator=generator, dtype=torch.float64)
    noisy = noises.add_noise(latents, noise, timesteps)
    prediction = noises.from_sample(guess, noisy, timesteps)
    target = noises.target(latents, noise, timesteps)
    return Step(noisy, timesteps, prediction, target, noises, teacher_prediction=target)


def per_sample(errors):
    return errors.square().flatten(1).mean(1)


@pytest.mark.parametrize(
    ("weighting", "of_epsilon", "of_velocity"),
    [
        (MinSNR(5.0), lambda snr: min(snr, 5) / snr, lambda snr: min(snr, 5) / (snr + 1)),
        (MinSNR(0.2), lambda snr: min(snr, 0.2) / snr, lambda snr: min(snr, 0.2) / (snr + 1)),
        (SoftMinSNR(4.0), lambda snr: 1 / (1 + snr / 4), lambda snr: 1 / (1 / snr + 1 / 4) / (1 + snr)),
        (DebiasedEstimation(), lambda snr: snr**-0.5, lambda snr: snr**0.5 / (snr + 1)),
        (TruncatedSNR(), lambda snr: max(1, 1 / snr), lambda snr: max(snr, 1) / (1 + snr)),
        (SNRPlusOne(), lambda snr: 1 + 1 / snr, lambda snr: 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_factors_are_those_of_the_paper(weighting, of_epsilon, of_velocity, prediction_type):
    expected = of_epsilon if prediction_type == "epsilon" else of_velocity
    alphas = diffusers.DDPMScheduler(**SD).alphas_cumprod.double()[TIMESTEPS]
    expected = torch.tensor([expected(snr) for snr in (alphas / (1 - alphas)).tolist()])
    factors = weighting(step(prediction_type))
    assert factors.dtype == torch.float32
    torch.testing.assert_close(factors, expected, rtol=1e-5, atol=0)


def test_soft_min_snr_is_that_of_k_diffusion():
    """c_weight / c_out^2 of its denoiser, with data of deviation sigma_data."""
    sigma, sigma_data = torch.tensor([0.03, 0.5, 3.0, 80.0]), 0.5
    c_weight = (sigma * sigma_data) ** 2 / (sigma**2 + sigma_data**2) ** 2
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2) ** 0.5
    torch.testing.assert_close(SoftMinSNR(sigma_data**-2).of_sample(sigma**-2), c_weight / c_out**2)


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda value: type(value).__name__)
def test_one_network_has_one_loss_whatever_it_predicts(weighting):
    """The same guess at x_0, said as eps and as v: both weighted errors are w_x times the error of x_0, sample by sample."""
    losses = []
    for kind in ("epsilon", "v_prediction"):
        each = step(kind)
        noisy, timesteps = each.noisy, each.timesteps
        losses.append(weighting(each) * per_sample(each.prediction - each.target))
        guess, latents = (each.schedule.to_sample(x, noisy, timesteps) for x in (each.prediction, each.target))
        snr = each.schedule.snr(timesteps)
        torch.testing.assert_close(losses[-1], weighting.of_sample(snr) * per_sample(guess - latents), rtol=1e-4, atol=0)
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0)


def test_velocity_has_the_plain_loss_of_snr_plus_one():
    for kind in ("epsilon", "v_prediction"):
        value = TaskLoss(weighting=dict(type="SNRPlusOne"))(step(kind))
        torch.testing.assert_close(value, TaskLoss()(step("v_prediction")), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [TaskLoss, OutputKD])
def test_a_loss_is_the_mean_of_the_weighted_errors(kind):
    each = step()
    expected = (MinSNR(0.5)(each) * per_sample((each.prediction - each.target).float())).mean()
    value = kind(weight=2.0, weighting=dict(type="MinSNR", gamma=0.5))(each)
    torch.testing.assert_close(value, 2 * expected)
    assert not torch.isclose(value, kind(weight=2.0)(each), rtol=0.01)


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda value: type(value).__name__)
def test_factors_are_finite_at_both_ends(weighting):
    """At pure noise (SNR 0, for v) and without noise (SNR infinite)."""
    clean = VariancePreserving(torch.tensor([1.0, 0.5, 0.0]), "v_prediction")
    ends = Step(None, torch.tensor([0, 2]), None, None, clean)
    at_no_noise, at_noise = weighting(ends).tolist()
    assert at_no_noise == pytest.approx(1.0 if isinstance(weighting, TruncatedSNR | SNRPlusOne) else 0.0, abs=2e-6)
    assert at_noise == (1.0 if isinstance(weighting, TruncatedSNR | SNRPlusOne) else 0.0)
    epsilon = Step(None, torch.tensor([0, 2]), None, None, VariancePreserving(torch.tensor([1.0, 0.5, 0.0])))
    assert weighting(epsilon).isfinite().all()


def test_zero_terminal_snr_is_weighted_with_velocity():
    """Lin et al.'s schedule: the last timestep of 1,000 is pure noise."""
    last = step("v_prediction", torch.tensor([998, 999]), rescale_betas_zero_snr=True)
    assert last.schedule.snr(last.timesteps)[1] == 0
    for weighting in WEIGHTINGS:
        assert weighting(last).isfinite().all()
    assert TaskLoss(weighting=dict(type="TruncatedSNR"))(last).isfinite()


@pytest.mark.parametrize("kind", [MinSNR, SoftMinSNR])
@pytest.mark.parametrize("gamma", [0, -1.0, float("nan"), float("inf"), "5"])
def test_gamma_must_be_positive(kind, gamma):
    with pytest.raises(InputError, match=f"^{kind.__name__}: gamma={gamma!r} must be a number above 0$"):
        kind(gamma)
