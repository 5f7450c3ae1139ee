"""How much each timestep counts in a loss, by its signal-to-noise ratio.

A weighting is defined by its weight w_x on the squared error of x_0, and converted to the student's own prediction once for
all. With SNR = alpha^2 / sigma^2, and at the same noisy latents z,

    |error of eps|^2 =  SNR      |error of x_0|^2     since x_0 = (z - sigma eps) / alpha
    |error of v|^2   = (SNR + 1) |error of x_0|^2     since x_0 = alpha z - sigma v, and 1 / sigma^2 = SNR + 1

(Salimans & Ho, 2022, eq. 9 and app. D). So the factor on the error of eps is w_x / SNR, and on that of v, w_x / (SNR + 1).
Under flow matching it is w_x / (1 + sqrt(SNR))^2, as x_0 = z - sigma v and alpha = 1 - sigma (`NoiseSchedule.error_ratio`).
"""

from torch import Tensor

from diffdistill.errors import check_range
from diffdistill.registry import MODELS
from diffdistill.step import Step

LARGEST_SNR = 1e12  # stands for infinity, where sigma is 0, so that all that follows is finite


class Weighting:
    """Called with a Step, returns the factors (B,) of the squared errors of its predictions, in fp32, always finite.

    Where SNR is 0, w_x / SNR has no meaning: a denoiser that sees pure noise says nothing of x_0 by predicting that noise.
    There `1 / LARGEST_SNR` stands for 0; families refuse such a schedule with epsilon.
    """

    def __call__(self, step: Step) -> Tensor:
        snr = step.schedule.snr(step.timesteps).clamp(max=LARGEST_SNR)
        if step.schedule.prediction_type == "epsilon":
            snr = snr.clamp(min=1 / LARGEST_SNR)
        return self.of_sample(snr) / step.schedule.error_ratio(snr)

    def of_sample(self, snr: Tensor) -> Tensor:
        """w_x: the weight of the squared error of x_0 at SNR (B,)."""
        raise NotImplementedError


@MODELS.register_module()
class MinSNR(Weighting):
    """w_x = min(SNR, gamma): nearly clean latents do not outweigh the others (Hang et al., 2023, arXiv:2303.09556)."""

    def __init__(self, gamma: float = 5.0):
        self.gamma = check_range("MinSNR: gamma", gamma, above=0)

    def of_sample(self, snr: Tensor) -> Tensor:
        return snr.clamp(max=self.gamma)


@MODELS.register_module()
class SoftMinSNR(Weighting):
    """w_x = 1 / (1 / SNR + 1 / gamma): min-SNR without its corner (Crowson et al., 2024, arXiv:2401.11605).

    That is 1 / (sigma^2 + 1 / gamma) for data plus noise of deviation sigma. The authors' code (k-diffusion, `soft-min-snr`)
    has 1 / gamma = sigma_data^2, which is 4 for gamma with their sigma_data of 0.5.
    """

    def __init__(self, gamma: float = 4.0):
        self.gamma = check_range("SoftMinSNR: gamma", gamma, above=0)

    def of_sample(self, snr: Tensor) -> Tensor:
        return self.gamma * snr / (snr + self.gamma)


@MODELS.register_module()
class DebiasedEstimation(Weighting):
    """w_x = sqrt(SNR), which is 1 / sqrt(SNR) on the error of eps (Yu et al., 2023, arXiv:2310.08442)."""

    def of_sample(self, snr: Tensor) -> Tensor:
        return snr.sqrt()


@MODELS.register_module()
class TruncatedSNR(Weighting):
    """w_x = max(SNR, 1): the larger of the errors of x_0 and eps (Salimans & Ho, 2022, arXiv:2202.00512, sec. 4)."""

    def of_sample(self, snr: Tensor) -> Tensor:
        return snr.clamp(min=1)


@MODELS.register_module()
class SNRPlusOne(Weighting):
    """w_x = SNR + 1: the plain error of variance-preserving v, whatever is predicted (Salimans & Ho, 2022, sec. 4)."""

    def of_sample(self, snr: Tensor) -> Tensor:
        return snr + 1
