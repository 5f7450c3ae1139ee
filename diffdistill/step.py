"""What a distillation method writes and the losses read."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffdistill.noise import NoiseSchedule


@dataclass
class Step:
    """One training step, before it is scored.

    `noisy`, `prediction`, `target` and `teacher_prediction` have the shape of the latents (B, C, H, W), the last three the
    prediction type of `schedule`, the student's; `timesteps` is (B,). `sample_weights` (B,) says how much each sample of the
    batch counts in losses that compare with the data: they are the mean of weight times distance. None: all count 1.
    `prediction` and `target` are None where single layers were run, which predict nothing. `features` maps "student layer <-
    teacher layer" to the outputs (student's, teacher's) of a feature pair, of equal shape. The teacher's tensors carry no
    gradient.
    """

    noisy: Tensor
    timesteps: Tensor
    prediction: Tensor | None
    target: Tensor | None
    schedule: NoiseSchedule
    sample_weights: Tensor | None = None
    teacher_prediction: Tensor | None = None
    features: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def prior_weights(is_prior: Tensor, prior_weight: float) -> Tensor:
    """`sample_weights` (B,) for which the mean over a batch is L_instance + prior_weight L_prior.

    That is prior preservation (Ruiz et al., 2023, DreamBooth, arXiv:2208.12242, eq. 2), each L being the mean over its own
    samples. `is_prior` (B,) says which samples show the class instead of the instance; halves of one size get the weights
    2 and 2 prior_weight.
    """
    priors, size = is_prior.sum(), is_prior.numel()
    return torch.where(is_prior, prior_weight * size / priors, size / (size - priors))
