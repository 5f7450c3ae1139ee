"""What a distillation method writes and the losses read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from diffdistill.noise import NoiseSchedule


@dataclass
class Step:
    """One training step, before it is scored.

    `noisy`, `prediction`, `target` and `teacher_prediction` have the shape of the latents (B, C, H, W), the last three the
    prediction type of `schedule`, the student's; `timesteps` is (B,). `sample_weights` (B,) says how much each sample of the
    batch counts in losses that compare with the data: they are the mean of weight times distance. None: all count 1.
    `prediction` and `target` are None where single layers were run, which predict nothing, and in a turn of the critics
    alone. `features` maps "student layer <- teacher layer" to the outputs (student's, teacher's) of a feature pair, of equal
    shape. The teacher's tensors carry no gradient.

    For critics: `sample` is the x_0 that the student draws or estimates, with its gradient in a turn of the student;
    `latents` are those of the data, and `condition` is their conditioning. `critic_losses` are the losses of the critics by
    name: none of their gradients reaches the student, and no other loss has one for a critic. `terms` are what losses that
    own critics have found for the student. `figures` are logged by name, beside the losses.
    """

    noisy: Tensor
    timesteps: Tensor
    prediction: Tensor | None
    target: Tensor | None
    schedule: NoiseSchedule
    sample_weights: Tensor | None = None
    teacher_prediction: Tensor | None = None
    features: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    sample: Tensor | None = None
    latents: Tensor | None = None
    condition: dict | None = None
    critic_losses: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, Tensor] = field(default_factory=dict)


class Turn(NamedTuple):
    """Whom an iteration trains: the student, its critics or both."""

    student: bool = True
    critics: bool = True


def at_sample(sample: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """`score(sample)`, a scalar whose gradient reaches `sample`, and none of the networks that `score` runs.

    Its gradient is taken at a copy of the sample that has no history. So one backward serves student and critics alike. On
    its way through networks in fp16 it is scaled up, as the gradient at one of so many latents is small.
    """
    leaf = sample.detach().requires_grad_()
    scale = leaf.numel() ** 0.5
    with torch.enable_grad():
        value = score(leaf)
        (gradient,) = torch.autograd.grad(value * scale, leaf)
    return value.detach() + ((sample - sample.detach()) * (gradient / scale)).sum()


def prior_weights(is_prior: Tensor, prior_weight: float) -> Tensor:
    """`sample_weights` (B,) for which the mean over a batch is L_instance + prior_weight L_prior.

    That is prior preservation (Ruiz et al., 2023, DreamBooth, arXiv:2208.12242, eq. 2), each L being the mean over its own
    samples. `is_prior` (B,) says which samples show the class instead of the instance; halves of one size get the weights
    2 and 2 prior_weight.
    """
    priors, size = is_prior.sum(), is_prior.numel()
    return torch.where(is_prior, prior_weight * size / priors, size / (size - priors))
