"""What a distiller asks of a method."""

from typing import ClassVar

from torch import Tensor

from diffdistill.step import Step


class Method:
    """What one training step computes.

    `needs_teacher` keeps the teacher's denoiser in memory whatever the losses need; `needs_average` asks for the moving
    average of the student, `distiller.average`. `sampling` overrides `model.sampling` for the student, where the method
    trains it for one sampler.
    """

    needs_teacher = False
    needs_average = False
    sampling: ClassVar[dict] = {}

    def check(self, plan) -> None:
        """Raise InputError, before any weight is loaded, if the method cannot train the student of a `StudentPlan`."""

    def __call__(self, distiller, latents: Tensor, condition: dict) -> Step:
        """One step on clean latents (B, C, H, W) with the conditioning of the denoiser, a dict of its keyword arguments."""
        raise NotImplementedError
