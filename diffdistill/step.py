"""What a distillation method writes and the losses read."""

from dataclasses import dataclass, field

from torch import Tensor

from diffdistill.noise import NoiseSchedule


@dataclass
class Step:
    """One training step, before it is scored.

    `noisy`, `prediction`, `target` and `teacher_prediction` have the shape of the latents (B, C, H, W), the last three the
    prediction type of `schedule`, the student's; `timesteps` is (B,). `sample_weights` (B,) says how much each sample of the
    batch counts in losses that compare with the data; None: all alike.
    `features` maps "student layer <- teacher layer" to the outputs (student's, teacher's) of a feature pair, of equal shape.
    The teacher's tensors carry no gradient.
    """

    noisy: Tensor
    timesteps: Tensor
    prediction: Tensor
    target: Tensor
    schedule: NoiseSchedule
    sample_weights: Tensor | None = None
    teacher_prediction: Tensor | None = None
    features: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
