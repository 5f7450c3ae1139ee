"""Mixed precision on any device (MMEngine's AmpOptimWrapper asserts a GPU)."""

import torch
from mmengine.optim import OptimWrapper

from diffdistill.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class MixedPrecision(OptimWrapper):
    """An OptimWrapper that scales the loss where the model computes in fp16.

    The precision has one home, `model.dtype`: the student runs under the model's autocast, and this wrapper adds a
    gradient scaler for fp16, whose small gradients would vanish. bf16 and fp32 need none.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, accumulative_counts: int = 1, clip_grad: dict | None = None):
        super().__init__(optimizer, accumulative_counts, clip_grad)
        self.scaler: torch.amp.GradScaler | None = None
        self._restored: dict | None = None

    def optim_context(self, model):
        """Before the first step of a model in fp16, make the gradient scaler, as the model is known only here."""
        model = getattr(model, "module", model)
        if self.scaler is None and model.dtype == torch.float16:
            self.scaler = torch.amp.GradScaler(next(model.parameters()).device.type)
            if self._restored:
                self.scaler.load_state_dict(self._restored)
        return super().optim_context(model)

    def backward(self, loss, **options):
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **options)

    def step(self, **options):
        if self.scaler is None:
            return super().step(**options)
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **options)
        self.scaler.update()
        return None

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.scaler is not None:
            state["loss_scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        self._restored = state_dict.pop("loss_scaler", None)
        super().load_state_dict(state_dict)
