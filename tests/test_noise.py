"""The forward process: its coefficients, and that what the denoiser predicts leads back to the picture."""

import diffusers
import pytest
import torch

from diffdistill.errors import InputError
from diffdistill.noise import VariancePreserving

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)


@pytest.fixture
def batch():
    """Latents, noise and timesteps, the first and last among them."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 4, 3, 5, 5, generator=generator)
    return latents, noise, torch.tensor([0, 400, 731, 999])


def schedule(prediction_type="epsilon"):
    return VariancePreserving.from_scheduler(diffusers.DDPMScheduler(**SD, prediction_type=prediction_type))


def test_coefficients_are_those_of_stable_diffusion():
    """alphas_cumprod of SD's scaled-linear betas ends at 0.00466."""
    alpha, sigma = schedule().coefficients(torch.tensor([0, 999]), torch.zeros(2, 4, 8, 8))
    torch.testing.assert_close(alpha.flatten().square(), torch.tensor([1 - 0.00085, 0.0046602]), rtol=1e-4, atol=0)
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(2, 1, 1, 1))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noisy_latents_and_targets_are_those_of_diffusers(batch, prediction_type):
    scheduler = diffusers.DDPMScheduler(**SD, prediction_type=prediction_type)
    ours = VariancePreserving.from_scheduler(scheduler)
    target = batch[1] if prediction_type == "epsilon" else scheduler.get_velocity(*batch)
    torch.testing.assert_close(ours.add_noise(*batch), scheduler.add_noise(*batch))
    torch.testing.assert_close(ours.target(*batch), target)
    assert len(ours) == 1000


def test_velocity_leads_back_to_latents_and_noise(batch):
    """alpha x_t - sigma v = x_0 and sigma x_t + alpha v = eps (Salimans & Ho, 2022, app. D)."""
    latents, noise, timesteps = batch
    ours = schedule("v_prediction")
    noisy, velocity = ours.add_noise(*batch), ours.target(*batch)
    alpha, sigma = ours.coefficients(timesteps, latents)
    torch.testing.assert_close(alpha * noisy - sigma * velocity, latents)
    torch.testing.assert_close(sigma * noisy + alpha * velocity, noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents_are_mixed_in_fp32(batch, dtype):
    """In bf16 alpha would keep 8 bits, an error of 1/256 at every timestep."""
    latents, noise, timesteps = batch[0].to(dtype), batch[1].to(dtype), batch[2]
    noisy = schedule().add_noise(latents, noise, timesteps)
    assert noisy.dtype == torch.float32
    torch.testing.assert_close(noisy, schedule().add_noise(latents.float(), noise.float(), timesteps), rtol=0, atol=0)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(
        InputError,
        match="prediction_type 'sample' is not supported by a variance-preserving noise",
    ):
        schedule("sample")


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_prediction_and_the_sample_it_stands_for(batch, prediction_type):
    latents, noise, timesteps = (each.double() if each.is_floating_point() else each for each in batch)
    ours = schedule(prediction_type)
    noisy = ours.add_noise(latents, noise, timesteps)
    target = ours.target(latents, noise, timesteps)
    torch.testing.assert_close(ours.to_sample(target, noisy, timesteps), latents, rtol=0, atol=1e-11)
    torch.testing.assert_close(ours.from_sample(latents, noisy, timesteps), target, rtol=0, atol=1e-11)


def test_the_signal_to_noise_ratio(batch):
    alphas_cumprod = diffusers.DDPMScheduler(**SD).alphas_cumprod[batch[2]]
    torch.testing.assert_close(schedule().snr(batch[2]), alphas_cumprod / (1 - alphas_cumprod), rtol=1e-5, atol=0)
