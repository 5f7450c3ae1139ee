"""Gradients that are let go during backward, as soon as the optimizer has used them."""

from functools import partial

import torch
from torch import nn

from diffdistill.engine.precision import MixedPrecision
from diffdistill.errors import InputError
from diffdistill.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class OptimizerInBackward(MixedPrecision):
    """Updates each parameter in backward, once its gradient is whole, and lets that go (Lv et al., 2023, LOMO, sec. 3.1).

    So the gradients of a few parameters are in memory at a time, and not those of all. The weights become what they become
    without it, for an optimizer that treats every parameter by itself. Nothing may need all gradients at once: no clipping,
    accumulation, gradient scaler or averaging over ranks. Where a gradient is not finite, it and those that come after it in
    the step are left out.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: dict | None = None):
        check_alone(accumulative_counts, clip_grad)
        super().__init__(optimizer)
        for number, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(partial(self._update, number))

    def _update(self, number: int, parameter: nn.Parameter) -> None:
        """Take the optimizer's step on `parameter` alone, of the group of that number, if its gradient is finite."""
        if not self.fault and not parameter.grad.norm().isfinite():
            self.fault = "gradient norm"
        if self.fault:
            parameter.grad = None
            return
        groups = self.optimizer.param_groups
        group = groups[number]  # by its number: a resume puts others in the place of the groups that were there
        members, settings = group["params"], {key: value for key, value in group.items() if key != "params"}
        self.optimizer.param_groups, group["params"] = [group], [parameter]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups, group["params"] = groups, members
        parameter.grad = None
        if any(group[key] is not value for key, value in settings.items()):
            raise InputError(
                f"optim_wrapper.optimizer.type={type(self.optimizer).__name__} keeps a state that all parameters share, and"
                " OptimizerInBackward takes a step for each; set optim_wrapper.type=MixedPrecision"
            )

    def step(self, **options) -> None:
        """Do nothing: every parameter has had its step."""


def check_alone(accumulative_counts: int, clip_grad: dict | None) -> None:
    """Raise InputError for what needs the gradients of all parameters, or of several batches, at once."""
    if accumulative_counts != 1:
        raise InputError(
            f"optim_wrapper.accumulative_counts={accumulative_counts}: OptimizerInBackward keeps no gradient from one batch"
            " to the next; set it to 1, or optim_wrapper.type=MixedPrecision"
        )
    if clip_grad:
        raise InputError(
            f"optim_wrapper.clip_grad={dict(clip_grad)}: OptimizerInBackward never has all gradients to clip their"
            " norm; set optim_wrapper.clip_grad=None, or optim_wrapper.type=MixedPrecision"
        )
