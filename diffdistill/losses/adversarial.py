"""The adversarial loss: heads on a denoiser's features tell the student's pictures from those of the data."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffdistill.errors import InputError, check_range
from diffdistill.losses.base import TEACHER, Loss
from diffdistill.losses.heads import Discriminator, Shape
from diffdistill.noise import NoiseSchedule
from diffdistill.registry import MODELS, build_part
from diffdistill.step import Step, at_sample
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.features import layer_matches, trace

# Kind -> what a logit costs the discriminator, given that of the data or, with its sign changed, of the student; and what
# the student's logit costs the student.
KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "hinge": (lambda logit: F.relu(1 - logit), lambda logit: -logit),
    "softplus": (lambda logit: F.softplus(-logit), lambda logit: F.softplus(-logit)),
}
MOST_LAYERS = 4  # of a transformer, by default


@MODELS.register_module()
class AdversarialLoss(Loss):
    """How unlike the data the student's pictures look to a discriminator (LADD: Sauer et al., 2024, arXiv:2403.12015).

    The discriminator is a head for each of some layers of a denoiser. Pictures of the data, x, and x_0 of the student are
    both renoised to a random time t, and the heads read the features there. With D the mean over all logits,

        hinge:     discriminator max(0, 1 - D(x)) + max(0, 1 + D(x_0)),    student -D(x_0)
        softplus:  discriminator softplus(-D(x)) + softplus(D(x_0)),       student softplus(-D(x_0))

    each taken logit by logit. The student's gradient is taken at x_0, in its own turns; it changes no other network.
    LADD is this loss alone; DMD2 adds it to distribution matching, PCM to latent consistency.

    Args:
        layers: patterns of layers of the denoiser; by default all stages of a UNet, but of a critic the mid block alone, as
            DMD2 has it, or the last stage down where it has none; of a transformer four blocks, evenly spaced.
        network: whose features; "teacher", which is frozen, or a critic of the method that is a denoiser, such as
            "fake_score", which the discriminator's loss then trains as well (DMD2, arXiv:2405.14867, sec. 4.3).
        kind: "hinge" or "softplus".
        head: of every layer: `dict(type="ResidualHead")`, by default, or `dict(type="StridedHead")`.
        timesteps: at which pictures are told apart, e.g. `dict(type="LogitNormalTimesteps", mean=1.0)`; by default uniform.
        real: "data"; or "target", the step's target as x_0, which is what the method's teacher makes of the data.
        critic: the name of the discriminator among the critics, in the log and in `optim_wrapper.paramwise_cfg`.
        critic_weight: of its loss; beside a fake score that it trains.
        r1: the weight of a penalty on how steep the discriminator is around the data.
        r1_sigma: the penalty is |D(z) - D(z + sigma eps)|^2 at noisy latents z (approximate R1: Lin et al., 2025,
            arXiv:2501.08316, sec. 3.3, with weight 100 and sigma 0.01). None: the squared norm of the heads' gradient at
            their features (ADD: Sauer et al., 2023, arXiv:2311.17042, sec. 3.2, with weight 1e-5).
    """

    needs_teacher = True
    needs_pictures = True

    def __init__(
        self,
        weight: float = 1.0,
        layers: Sequence[str] | None = None,
        network: str = TEACHER,
        kind: str = "hinge",
        head: dict | None = None,
        timesteps: dict | None = None,
        real: str = "data",
        critic: str = "discriminator",
        critic_weight: float = 1.0,
        r1: float = 0.0,
        r1_sigma: float | None = 0.01,
    ):
        super().__init__(weight)
        for name, value, known in (("kind", kind, KINDS), ("real", real, ("data", "target"))):
            if value not in known:
                raise InputError(f"AdversarialLoss: {name}={value!r} is unknown; use {' or '.join(map(repr, known))}")
        self.layers = None if layers is None else list(layers)
        self.network, self.critic, self.real = network, critic, real
        self.runs = [network]
        self.costs, self.cost_of_student = KINDS[kind]
        self.head = build_part(MODELS, head or dict(type="ResidualHead"), ".head")
        self.timesteps = build_part(MODELS, timesteps or dict(type="UniformTimesteps"), ".timesteps")
        self.critic_weight = check_range("AdversarialLoss: critic_weight", critic_weight, above=0)
        self.r1 = r1 and check_range("AdversarialLoss: r1", r1, above=0)
        self.r1_sigma = r1_sigma and check_range("AdversarialLoss: r1_sigma", r1_sigma, above=0)
        self.differentiates_twice = bool(r1) and r1_sigma is None

    def critics(self, plan, teacher: nn.Module | None) -> Mapping[str, nn.Module]:
        self.timesteps.check(plan.noise_schedule)
        if self.real == "target" and not plan.method.targets_pictures:
            raise InputError(
                f"AdversarialLoss: real='target': the target of {type(plan.method).__name__} is no clean picture; use 'data'"
            )
        shapes = self.shapes(plan)
        with torch.device("meta" if next(teacher.parameters()).is_meta else "cpu"):
            return {self.critic: Discriminator(shapes, self.head)}

    def shapes(self, plan) -> dict[str, Shape]:
        """The layers that the heads read -> the shape of their features, for one picture of the native size."""
        kind = plan.family.denoiser_class
        traced = trace(kind, plan.family.denoiser_config)
        if self.layers is None:
            found = default_layers(kind, list(traced), inmost=self.network != TEACHER)
        else:
            found = self.chosen(traced, kind.__name__)
        for layer in found:
            if len(traced[layer]) not in (3, 4):
                raise InputError(f"AdversarialLoss: layers: {layer!r} gives neither a map nor tokens, but {traced[layer]}")
        return {layer: traced[layer] for layer in found}

    def chosen(self, traced: Mapping[str, Shape], kind: str) -> list[str]:
        """The layers that fit `layers`, in the order in which they run; raises InputError for a pattern that none fits."""
        for pattern in self.layers:
            if not any(layer_matches(pattern, layer) for layer in traced):
                near = ", ".join(get_close_matches(pattern, traced, n=3, cutoff=0.0))
                raise InputError(f"AdversarialLoss: layers: a {kind} has no layer {pattern!r}; the nearest: {near}")
        found = [layer for layer in traced if any(layer_matches(pattern, layer) for pattern in self.layers)]
        if not found:
            raise InputError(
                "AdversarialLoss: layers=[] leaves the discriminator nothing to read; leave it out, or name some"
            )
        return found

    def train_critics(self, model, step: Step) -> None:
        schedule, discriminator = model.teacher_schedule, model.critics[self.critic]
        real, fake = self.real_of(step), sample_of(step)
        timesteps, noisy = self.renoise(schedule, real)
        with model.tapped(self.network, discriminator.layers, step.condition) as look:
            features = look(noisy, timesteps)
            of_real = discriminator(features)
            of_fake = discriminator(look(self.renoise(schedule, fake.detach(), timesteps)[1], timesteps))
            loss = mean_of(self.costs, of_real) + mean_of(lambda logits: self.costs(-logits), of_fake)
            if self.r1 and self.r1_sigma is None:
                loss = loss + self.r1 * steepness(discriminator, features)
            elif self.r1:
                near = discriminator(look(noisy + self.r1_sigma * torch.randn_like(noisy), timesteps))
                changes = [here - there for here, there in zip(of_real, near, strict=True)]
                loss = loss + self.r1 * mean_of(torch.square, changes)
            if model.turn.student:

                def score(sample: Tensor) -> Tensor:
                    times, renoised = self.renoise(schedule, sample)
                    return mean_of(self.cost_of_student, discriminator(look(renoised, times)))

                step.terms[self.critic] = at_sample(fake, score)
        step.critic_losses[self.critic] = self.critic_weight * loss
        for name, logits in (("real", of_real), ("fake", of_fake)):
            step.figures[f"{self.critic}_{name}"] = mean_of(Tensor.detach, logits)

    def score(self, step: Step) -> Tensor:
        return step.terms[self.critic]

    def renoise(self, schedule: NoiseSchedule, sample: Tensor, timesteps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Timesteps (B,), drawn where none are given, and the noisy latents of `sample` there."""
        timesteps = self.timesteps(schedule, sample) if timesteps is None else timesteps
        return timesteps, schedule.add_noise(sample, torch.randn_like(sample), timesteps)

    def real_of(self, step: Step) -> Tensor:
        """What counts as real, as latents (B, C, H, W) in fp32."""
        if self.real == "data":
            return step.latents
        return as_sample(step, step.target).detach()


def sample_of(step: Step) -> Tensor:
    """The student's x_0 (B, C, H, W) in fp32."""
    return as_sample(step, step.prediction) if step.sample is None else step.sample


def as_sample(step: Step, prediction: Tensor) -> Tensor:
    """The x_0 that a prediction of a step stands for; of methods that say their sample, all predictions are x_0 already."""
    if step.sample is not None:
        return prediction.float()
    return step.schedule.to_sample(prediction.float(), step.noisy, step.timesteps)


def mean_of(cost: Callable[[Tensor], Tensor], logits: Sequence[Tensor]) -> Tensor:
    """The mean of `cost` over the logits of a head, and of that over heads."""
    return torch.stack([cost(each).mean() for each in logits]).mean()


def steepness(discriminator: nn.Module, features: Mapping[str, Tensor]) -> Tensor:
    """The squared norm of the gradient of a head's mean logit at a picture's features; the mean over pictures and heads."""
    leaves = {layer: each.detach().float().requires_grad_() for layer, each in features.items()}
    with torch.enable_grad():
        total = sum(each.flatten(1).mean(1).sum() for each in discriminator(leaves))
        gradients = torch.autograd.grad(total, list(leaves.values()), create_graph=True)
    return torch.stack([each.square().flatten(1).sum(1).mean() for each in gradients]).mean()


def default_layers(kind: type, traced: Sequence[str], inmost: bool) -> list[str]:
    """The layers that are read where none are named, of a denoiser class and all its layers in their order.

    `inmost`: of a UNet, where pictures are smallest, alone.
    """
    rules = rules_of(kind)
    for pattern in rules.innermost if inmost else ():
        if found := [layer for layer in traced if layer_matches(pattern, layer)]:
            return found[-1:]
    blocks = [layer for layer in traced if any(layer_matches(pattern, layer) for pattern in rules.blocks)]
    count = len(blocks) if rules.innermost else min(MOST_LAYERS, len(blocks))
    return [blocks[len(blocks) * part // count - 1] for part in range(1, count + 1)]
