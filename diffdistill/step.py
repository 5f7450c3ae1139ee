"""What a distillation method writes and the losses read."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Step:
    """One training step, before it is scored.

    `noisy`, `prediction`, `target` and `teacher_prediction` have the shape of the latents (B, C, H, W); `timesteps` is (B,).
    `features` maps "student layer <- teacher layer" to the outputs (student's, teacher's) of a feature pair, of equal shape.
    The teacher's tensors carry no gradient.
    """

    noisy: Tensor
    timesteps: Tensor
    prediction: Tensor
    target: Tensor
    teacher_prediction: Tensor | None = None
    features: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
