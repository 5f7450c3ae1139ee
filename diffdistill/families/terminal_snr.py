"""Zero terminal signal-to-noise ratio (Lin et al., 2023, arXiv:2305.08891): the last timestep is pure noise, in training and
in sampling, so that a student can also make very dark and very bright pictures."""

import inspect
from collections.abc import Mapping

import diffusers

from diffdistill.errors import InputError
from diffdistill.noise import NoiseSchedule


def rescales(sampler: type) -> bool:
    """Whether a diffusers scheduler class can rescale its schedule (alg. 1)."""
    return "rescale_betas_zero_snr" in inspect.signature(sampler).parameters


def rescaled_config(config: Mapping) -> dict:
    """A scheduler's config with zero terminal SNR."""
    # Without trailing timesteps, sampling would not start at the pure noise of the last one (sec. 3.3).
    return {**config, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def rescaled_sampler(scheduler: diffusers.SchedulerMixin) -> diffusers.SchedulerMixin:
    """`scheduler` with zero terminal SNR; DDIM, which the paper uses, stands in for one that cannot rescale."""
    if rescales(type(scheduler)):
        return type(scheduler).from_config(rescaled_config(scheduler.config))
    # DDIM clips by default, to the range of pictures: wrong for latents.
    return diffusers.DDIMScheduler.from_config({"clip_sample": False, **rescaled_config(scheduler.config)})


def check_terminal_snr(schedule: NoiseSchedule, asked: bool, where: str) -> None:
    """Raise InputError for a schedule that ends in pure noise where epsilon is predicted, which then says nothing of x_0."""
    if schedule.prediction_type == "epsilon" and schedule.alphas[len(schedule) - 1] == 0:
        key = "zero_terminal_snr" if asked else "rescale_betas_zero_snr in its scheduler_config.json"
        raise InputError(f"{where} predicts epsilon; {key} needs v_prediction")
