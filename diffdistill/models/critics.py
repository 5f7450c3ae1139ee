"""Networks beside the student: fake scores and heads of discriminators, which never leave the run."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from diffusers import ModelMixin
from mmengine.dist import all_reduce_dict
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.checkpoint import noop_context_fn

from diffdistill.errors import InputError
from diffdistill.losses.base import TEACHER
from diffdistill.methods.base import Features
from diffdistill.models.adapters import adapter_on, adapter_tree, same_adapters
from diffdistill.step import Turn
from diffdistill.students.features import FeatureTaps
from diffdistill.students.recompute import Choice, recompute


class Critics(nn.ModuleDict):
    """The critics of a run by name; the last child of its model, since moving averages match parameters by their order.

    They are a part of the module tree: saved in checkpoints, resumed, moved, optimised, and wrapped for several ranks. A
    deep copy is empty, which is how a moving average leaves them out; nothing exports them.
    """

    def __deepcopy__(self, memo: dict) -> "Critics":
        return Critics()


def named_critics(
    owners: Mapping[str, Mapping[str, nn.Module | Mapping]], losses: Collection[str]
) -> dict[str, tuple[nn.Module | Mapping, str]]:
    """Name -> critic and the key of the config that asks for it, of all that the method and the losses own.

    Raises InputError for a name that two of them use, or one of the `losses`, beside which it is logged.
    """
    found: dict[str, tuple[nn.Module | Mapping, str]] = {}
    for where, critics in owners.items():
        for name, critic in critics.items():
            if name in found or name in losses:
                other = found[name][1] if name in found else "a loss"
                raise InputError(f"{where} has a critic named {name!r}, as {other} has; name one of them otherwise")
            found[name] = critic, where
    return found


class CriticisedModel(BaseModel):
    """A model with critics beside what it trains, and turns in which it trains the one, the others or both."""

    turn, iteration = Turn(), 0

    def add_critics(
        self,
        described: Mapping[str, tuple[nn.Module | Mapping, str]],
        recomputed: Choice,
        contexts: Callable[[], tuple] = noop_context_fn,
    ) -> None:
        """Take in what `Plan.describe_critics` returns; adapters among it go into the base that is teacher and student.

        `recomputed` and `contexts` are those of `students.recompute`.
        """
        self.critics, self.adapter_critics = Critics(), []
        for name, (critic, where) in described.items():
            if isinstance(critic, nn.Module):
                self.critics[name] = critic.float().requires_grad_(True)
                if isinstance(critic, ModelMixin):
                    recompute(critic, recomputed, contexts)
            else:
                self.critics[name] = adapter_tree(self.student, critic, f"{where}.{name}", name)
                self.adapter_critics.append(name)
                recompute(self.student, recomputed, same_adapters(self.student, contexts))
        if self.differentiates_teacher:
            recompute(self.teacher, recomputed, contexts)

    @property
    def differentiates_teacher(self) -> bool:
        """Whether a loss takes gradients through a teacher that is a model of its own."""
        runs = (getattr(loss, "runs", ()) for loss in self.losses.values())
        return self.teacher is not self.student and any(TEACHER in names for names in runs)

    def begin(self, iteration: int, update: int) -> None:
        """Say which iteration begins, and to which update it belongs, both from 0; the turn follows."""
        self.iteration, self.turn = iteration, self.method.turn(update)

    @contextmanager
    def critic(self, name: str) -> Iterator[nn.Module]:
        """The critic of that name, ready to be called inside the block."""
        if name in self.adapter_critics:
            with adapter_on(self.student, name) as model:
                yield model
        else:
            yield self.critics[name]

    def predict_critic(self, name: str, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        """What the critic `name`, a denoiser, predicts, in fp32, with gradient unless that is off."""
        with self.critic(name) as denoiser, self.autocast():
            return self.family.predict(denoiser, noisy, timesteps, condition).float()

    @contextmanager
    def tapped(self, network: str, layers: Sequence[str], condition: dict) -> Iterator[Callable[[Tensor, Tensor], Features]]:
        """Inside the block, what gives the features of `layers` at (noisy latents, timesteps), in the compute dtype.

        `network` is "teacher" or the name of a critic. A gradient through it must be taken inside the block as well, since
        the network may be one of several adapters of one model, and run again in backward.
        """
        with self.denoiser(teacher=True) if network == TEACHER else self.critic(network) as denoiser:
            taps = FeatureTaps(denoiser, layers)

            def look(noisy: Tensor, timesteps: Tensor) -> Features:
                with taps.record() as features, beside_output(denoiser, features), self.autocast():
                    self.family.predict(denoiser, noisy.to(self.dtype), timesteps, condition)
                return features

            yield look

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of this rank, which is differentiated, and what is logged: terms and sum, averaged over ranks."""
        loss, logged = super().parse_losses(losses)
        all_reduce_dict(logged := {name: value.detach() for name, value in logged.items()}, op="mean")
        return loss, logged


@contextmanager
def beside_output(model: nn.Module, features: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block, hooks that `model` has already see `features` as a part of its output; its callers do not.

    A model in pieces (torch's FSDP2) is gathered for backward when a gradient reaches its output, by such a hook.
    """
    handles = [
        model.register_forward_hook(lambda module, inputs, output: (output, features), prepend=True),
        model.register_forward_hook(lambda module, inputs, output: output[0]),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
